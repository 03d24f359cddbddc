"""C{preflight}: what a configuration needs of this machine: files, endpoints, certificates.

It looks at all of it before anything is made, and opens no socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path as File
from typing import Any

from kolus.config import AdminSettings, Config, GroupSettings, Mistake, Path
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.daemon.listening.unix_listening import check_socket_path
from kolus.daemon.served_group import endpoint_maker, make_source
from kolus.sources import check_file
from kolus.tls import BackendCertificates, ListenerCertificates

__all__ = ["preflight"]

_LISTENS = re.compile(r"tcp:(\d{1,5})(?::interface=([\d.]+))?")
_CONNECTS = re.compile(r"tcp:([^:]+):(\d{1,5})")
_LOOPBACK = ("localhost", "127.0.0.1")


def preflight(reactor: Any, config: Config) -> Iterator[Mistake]:
    """Every mistake that only this machine can show."""
    for name, group in config.groups.items():
        yield from _of_group(reactor, group, ("groups", name), config.name_servers)
    if config.admin is not None:
        yield from _of_admin(reactor, config.admin)
    for name, listener in config.listeners.items():
        path: Path = ("listeners", name)
        for at, each in enumerate(listener.listen):
            yield from _tried((*path, "listen", at), listen_endpoint, reactor, each)
            yield from _own_backends((*path, "listen", at), each, config.groups[listener.group])
        if listener.settings.tls is not None:
            yield from _tried_tls(path, ListenerCertificates, listener.settings.tls)
    if config.takeover is not None:
        yield from _tried(("takeover",), check_socket_path, config.takeover)


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
    hint = "; to start without it: --wait-for-source yes"
    if not File(name).exists():
        yield Mistake(path, f"there is no file {name}{hint}")
        return
    for mistake in _tried(path, check_file, name):
        yield Mistake(path, mistake.why + hint)


def _own_backends(path: Path, address: str, group: GroupSettings) -> Iterator[Mistake]:
    """Backends that are the listener itself: each client would make another one, without end."""
    ours = _LISTENS.fullmatch(address)
    if ours is None or not int(ours[1]):
        return
    hosts = _LOOPBACK if ours[2] is None else (ours[2],)
    for each in group.backends:
        theirs = _CONNECTS.fullmatch(str(each.endpoint))
        if theirs is not None and theirs[2] == ours[1] and theirs[1] in hosts:
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
