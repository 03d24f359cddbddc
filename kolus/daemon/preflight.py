"""C{preflight}: what a configuration needs of this machine: files, endpoints, certificates.

It looks at all of it before anything is made, and opens no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path as File
from typing import Any

from kolus.backend import Backend
from kolus.config import AdminSettings, Config, GroupSettings, Mistake, Path
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.daemon.listening.place import Place, place_of, socket_place
from kolus.daemon.listening.unix_listening import check_socket_path
from kolus.daemon.served_group import endpoint_maker, make_source
from kolus.sources import check_file
from kolus.support import Work
from kolus.tls import BackendCertificates, CertificateError, ListenerCertificates

__all__ = ["preflight"]

MakeListening = Callable[[Any, str], Any]


def preflight(
    reactor: Any, config: Config, listening: MakeListening = listen_endpoint
) -> Iterator[Mistake | None]:
    """Every mistake that only this machine can show; C{None}: one piece more is looked at.

    @param config: without what is already known to be wrong.
    @param listening: makes the endpoints of addresses to listen on, as C{listen_endpoint}, or
        C{promised_endpoint} if nothing will be listened on.
    """
    make = partial(listening, reactor)
    backends = {}
    for name, group in config.groups.items():
        backends[name] = yield from _by_place(reactor, group)
        yield from _of_group(reactor, group, ("groups", name), config.name_servers)
    if config.admin is not None:
        yield from _of_admin(make, config.admin)
    places: dict[Path, tuple[str, Place]] = {}
    for name, listener in config.listeners.items():
        path: Path = ("listeners", name)
        for at, each in enumerate(listener.listen):
            here = (*path, "listen", at)
            yield from _tried(here, _note_place, places, here, make, each)
            if here in places and listener.group in backends:
                yield from _own_backend(here, *places[here], backends[listener.group])
        if listener.settings.tls is not None:
            yield from _tried_tls(path, ListenerCertificates, listener.settings.tls)
    if config.admin is not None:
        for at, each in enumerate(config.admin.listen):
            here = ("admin", "listen", at)
            list(_tried(here, _note_place, places, here, make, each))
    if config.takeover is not None:
        yield from _tried(("takeover",), check_socket_path, config.takeover)
        places["takeover",] = config.takeover, socket_place(config.takeover)
    yield from _shared(places)


def _note_place(
    places: dict[Path, tuple[str, Place]], path: Path, make: Callable[[str], Any], description: str
) -> None:
    place = place_of(make(description))
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


def _of_admin(make: Callable[[str], Any], admin: AdminSettings) -> Iterator[Mistake]:
    from kolus.admin import (  # has a web server, which takes long to import
        admin_endpoint,
        read_token,
    )

    for at, each in enumerate(admin.listen):
        yield from _tried(("admin", "listen", at), admin_endpoint, make, each, admin.allow_remote)
    if admin.token_file is not None:
        yield from _tried(("admin", "token_file"), read_token, admin.token_file)


def _of_group(
    reactor: Any, group: GroupSettings, path: Path, servers: tuple[str, ...]
) -> Iterator[Mistake | None]:
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
        yield None


def _of_file(path: Path, name: str) -> Iterator[Mistake]:
    hint = "; to start without it, set wait_for_source (--wait-for-source yes)"
    if not File(name).exists():
        yield Mistake(path, f"there is no file {name}{hint}")
        return
    for mistake in _tried(path, check_file, name):
        yield Mistake(path, mistake.why + hint)


def _by_place(reactor: Any, group: GroupSettings) -> Work[dict[Place | None, Backend]]:
    """The backends of a group by their places."""
    found = {}
    for each in group.backends:
        with suppress(ValueError):  # it is told of elsewhere
            found[place_of(each.connector(reactor))] = each
        yield
    return found


def _own_backend(
    path: Path, address: str, place: Place, backends: dict[Place | None, Backend]
) -> Iterator[Mistake]:
    """A backend that is the listener itself: each client would make another one, without end."""
    own = backends.get(place if place.host else Place("127.0.0.1", place.port))
    if own is not None:
        yield Mistake(path, f"{address} is the backend {own} itself: choose another port")


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
    except CertificateError as error:
        for why in error.args:
            yield Mistake(path, why)
    except ValueError as error:
        yield Mistake(path, str(error))
