"""C{preflight}: what a configuration needs of this machine: files, endpoints, certificates.

It looks at all of it before anything is made, and opens no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path as File
from typing import Any

from kolus.config import AdminSettings, Config, GroupSettings, Mistake, Path
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.daemon.listening.place import Place, place_of, socket_place
from kolus.daemon.listening.unix_listening import check_socket_path
from kolus.daemon.served_group import endpoint_maker, make_source
from kolus.sources import check_file
from kolus.tls import BackendCertificates, ListenerCertificates

__all__ = ["preflight"]


def preflight(reactor: Any, config: Config) -> Iterator[Mistake]:
    """Every mistake that only this machine can show."""
    for name, group in config.groups.items():
        yield from _of_group(reactor, group, ("groups", name), config.name_servers)
    if config.admin is not None:
        yield from _of_admin(reactor, config.admin)
    places: dict[Path, tuple[str, Place]] = {}
    for name, listener in config.listeners.items():
        path: Path = ("listeners", name)
        for at, each in enumerate(listener.listen):
            here = (*path, "listen", at)
            yield from _tried(here, _note_place, places, here, reactor, each)
            if here in places:
                group = config.groups[listener.group]
                yield from _own_backends(reactor, here, *places[here], group)
        if listener.settings.tls is not None:
            yield from _tried_tls(path, ListenerCertificates, listener.settings.tls)
    if config.admin is not None:
        for at, each in enumerate(config.admin.listen):
            here = ("admin", "listen", at)
            list(_tried(here, _note_place, places, here, reactor, each))
    if config.takeover is not None:
        yield from _tried(("takeover",), check_socket_path, config.takeover)
        places["takeover",] = config.takeover, socket_place(config.takeover)
    yield from _shared(places)


def _note_place(
    places: dict[Path, tuple[str, Place]], path: Path, reactor: Any, description: str
) -> None:
    place = place_of(listen_endpoint(reactor, description))
    if place is not None:
        places[path] = description, place


def _shared(places: dict[Path, tuple[str, Place]]) -> Iterator[Mistake]:
    """Places where only one of several could listen."""
    seen: dict[Path, Place] = {}
    for path, (text, place) in places.items():
        for other in [each for each, taken in seen.items() if place.meets(taken)][:1]:
            where = ".".join(map(str, other[:-1]))
            yield Mistake(path, f"{text} is in {where}, too; leave one out")
        seen[path] = place


def _of_admin(reactor: Any, admin: AdminSettings) -> Iterator[Mistake]:
    from kolus.admin import place_of, read_token  # has a web server, which takes long to import

    for at, each in enumerate(admin.listen):
        make = partial(listen_endpoint, reactor)
        yield from _tried(("admin", "listen", at), place_of, make, each, admin.allow_remote)
    if admin.token_file is not None:
        yield from _tried(("admin", "token_file"), read_token, admin.token_file)


def _of_group(
    reactor: Any, group: GroupSettings, path: Path, servers: tuple[str, ...]
) -> Iterator[Mistake]:
    if group.source is not None:
        mistakes = list(_tried((*path, "source"), make_source, reactor, group, servers))
        yield from mistakes
        kind, _, name = group.source.partition(":")
        if kind == "file" and not group.wait_for_source and not mistakes:
            yield from _of_file((*path, "source"), name)
    if group.tls is not None:
        mistakes = list(_tried_tls(path, BackendCertificates, group.tls))
        yield from mistakes
        if mistakes:
            return
    make = endpoint_maker(None if group.tls is None else BackendCertificates(group.tls))
    for at, each in enumerate(group.backends):
        yield from _tried((*path, "backends", at), make, reactor, each)


def _of_file(path: Path, name: str) -> Iterator[Mistake]:
    hint = "; to start without it, set wait_for_source (--wait-for-source yes)"
    if not File(name).exists():
        yield Mistake(path, f"there is no file {name}{hint}")
        return
    for mistake in _tried(path, check_file, name):
        yield Mistake(path, mistake.why + hint)


def _own_backends(
    reactor: Any, path: Path, address: str, place: Place, group: GroupSettings
) -> Iterator[Mistake]:
    """Backends that are the listener itself: each client would make another one, without end."""
    local = Place("127.0.0.1", place.port)
    for each in group.backends:
        with suppress(ValueError):  # it is told of elsewhere
            if place_of(each.connector(reactor)) == (place if place.host else local):
                yield Mistake(path, f"{address} is the backend {each} itself: choose another port")


def _tried_tls(path: Path, make: Callable[..., object], settings: object) -> Iterator[Mistake]:
    """As C{_tried}, with the key of C{tls} that the message begins with."""
    for mistake in _tried(path, make, settings):
        names, _, why = mistake.why.partition(": ")
        if names.startswith("tls."):
            yield Mistake((*path, *names.split(".")), why)
        else:
            yield Mistake((*path, "tls"), mistake.why)


def _tried(path: Path, make: Callable[..., object], *arguments: Any) -> Iterator[Mistake]:
    try:
        make(*arguments)
    except ValueError as error:
        yield Mistake(path, str(error))
