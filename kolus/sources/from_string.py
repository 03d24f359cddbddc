"""Parses the sources and name servers of a command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kolus.sources.dns import DNSSource
from kolus.sources.file import FileSource
from kolus.sources.resolver import check_servers
from kolus.support import nearest

if TYPE_CHECKING:
    from kolus.interfaces import ISource

__all__ = ["name_server_from_string", "source_from_string"]

_EXPECTED = "expected dns:NAME:PORT, srv:_SERVICE._tcp.NAME or file:PATH.toml (or .json)"

_NAME_SERVER = re.compile(r"(?:\[(?P<bracketed>[^]]+)\]|(?P<plain>[^:]+))(?::(?P<port>[^:]*))?")


def source_from_string(
    reactor: Any, text: str, servers: Sequence[tuple[str, int]] | None = None
) -> ISource:
    """Make the source for C{dns:name:port}, C{srv:_x._tcp.name} or C{file:path}.

    @param reactor: runs the source; must support UDP for C{dns} and C{srv}.
    @param servers: the name servers for C{dns} and C{srv}, as for C{DNSSource}.
    @raise ValueError: C{text} is invalid; the message says what is expected.
    """
    kind, _, rest = text.partition(":")
    try:
        if kind == "dns":
            name, colon, port = rest.rpartition(":")
            if not colon:
                raise ValueError("its port is missing")
            return DNSSource(reactor, name, _port(port), servers=servers)
        if kind == "srv":
            return DNSSource(reactor, rest, kind="srv", servers=servers)
        if kind == "file":
            return FileSource(reactor, rest)
    except ValueError as error:
        raise ValueError(f"not a source: {text!r} ({error}); {_EXPECTED}") from error
    near = nearest(kind, ("dns", "srv", "file"))
    hint = "" if near is None else f"; did you mean {near}:{rest}?"
    raise ValueError(f"not a source: {text!r}; {_EXPECTED}{hint}")


def name_server_from_string(text: str) -> tuple[str, int]:
    """The pair (address, port) for C{address} or C{address:port}. The default port is 53.

    An IPv6 address before a port must be in brackets.

    @raise ValueError: C{text} is invalid; the message says what is expected.
    """
    found = _NAME_SERVER.fullmatch(text)
    host, port = text, "53"  # an IPv6 address without brackets
    if found is not None:
        host = found["bracketed"] or found["plain"]
        port = port if found["port"] is None else found["port"]
    try:
        (server,) = check_servers([(host, _port(port))])
    except ValueError as error:
        raise ValueError(
            f"not a name server: {text!r}; expected its address, and its port if that is not 53, "
            "for example 10.0.0.2, 127.0.0.1:8600 or [::1]:8600"
        ) from error
    return server


def _port(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) < 6):
        raise ValueError(f"port must be a whole number from 1 to 65535, not {digits!r}")
    return int(digits)
