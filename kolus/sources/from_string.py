"""C{source_from_string}: the source that a command line names."""

from __future__ import annotations

from typing import Any

from kolus.interfaces import ISource
from kolus.sources.dns import DNSSource
from kolus.sources.file import FileSource

__all__ = ["source_from_string"]

_EXPECTED = "expected dns:NAME:PORT, srv:_SERVICE._tcp.NAME or file:PATH.toml (or .json)"


def source_from_string(reactor: Any, text: str) -> ISource:
    """Make the source that C{dns:name:port}, C{srv:_x._tcp.name} or C{file:path} stands for.

    @param reactor: what it runs in; for C{dns} and C{srv} one with UDP.
    @raise ValueError: it stands for none; the message says what is expected.
    """
    kind, _, rest = text.partition(":")
    try:
        if kind == "dns":
            name, _, port = rest.rpartition(":")
            return DNSSource(reactor, name, _port(port))
        if kind == "srv":
            return DNSSource(reactor, rest, kind="srv")
        if kind == "file":
            return FileSource(reactor, rest)
    except ValueError as error:
        raise ValueError(f"not a source: {text!r} ({error}); {_EXPECTED}") from error
    raise ValueError(f"not a source: {text!r}; {_EXPECTED}")


def _port(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) < 6):
        raise ValueError(f"port must be a whole number from 1 to 65535, not {digits!r}")
    return int(digits)
