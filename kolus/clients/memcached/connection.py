"""C{Connection}: Twisted's protocol of memcached, with a look at each reply before it is believed.

C{MemCacheProtocol} gives each reply to the oldest call, and if a reply makes no sense to it, it
forgets that call. Here a reply that does not fit is the error of the oldest call, and the end of
the connection: what comes after it may belong to anybody.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.memcache import MemCacheProtocol
from twisted.python.failure import Failure

from kolus.clients.calls import WrongReply

__all__ = ["Connection"]

_SHOWN = 60

_STORES = frozenset({b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"})

_REPLIES = {
    **dict.fromkeys([b"set", b"add", b"replace", b"append", b"prepend", b"cas"], _STORES),
    **dict.fromkeys([b"incr", b"decr"], frozenset({b"NOT_FOUND"})),
    b"delete": frozenset({b"DELETED", b"NOT_FOUND"}),
    b"flush_all": frozenset({b"OK"}),
    b"get": frozenset({b"VALUE", b"END"}),
    b"gets": frozenset({b"VALUE", b"END"}),
    b"stats": frozenset({b"STAT", b"END"}),
    b"version": frozenset({b"VERSION"}),
}
"""The first words of what may answer each command."""

_ERRORS = frozenset({b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR"})
_WITH_TEXT = frozenset({b"CLIENT_ERROR", b"SERVER_ERROR", b"STAT", b"VALUE", b"VERSION"})


class Connection(MemCacheProtocol):
    """Fails the oldest call with C{WrongReply} if the reply cannot be its own."""

    _current: Any
    _bufferLength: Any
    _getBuffer: Any
    _lenExpected: Any

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: measures for how long the server may be silent.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock = clock
        self._is_wrong = False

    def callLater(self, period: float, func: Any) -> IDelayedCall:
        """As C{TimeoutMixin} has it, on the clock of the pool."""
        return self._clock.callLater(period, func)

    def lineReceived(self, line: bytes) -> None:
        if self._is_wrong:
            return
        if self._current and _fits(self._current[0], line):
            # Twisted cannot read a number that is filled up with blanks.
            its = line.rstrip() if line[:1].isdigit() else line
            super().lineReceived(its)  # type: ignore[no-untyped-call]
        else:
            self._wrong(line)

    def rawDataReceived(self, data: bytes) -> None:
        if self._is_wrong:
            return
        length: Any = self._lenExpected
        if self._bufferLength + len(data) >= length + 2:
            whole = b"".join([*self._getBuffer, data])
            if whole[length : length + 2] != b"\r\n":
                self._wrong(whole[length:])
                return
            self._getBuffer, self._bufferLength, data = [], 0, whole
        super().rawDataReceived(data)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        self._wrong(line)

    def _wrong(self, reply: bytes) -> None:
        self._is_wrong = True
        if self._current:
            call = self._current.popleft()
            shown = reply[:_SHOWN] + (b"..." if len(reply) > _SHOWN else b"")
            call.fail(WrongReply(f"memcached answered {call.command.decode()} with {shown!r}"))
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.setTimeout(None)  # type: ignore[no-untyped-call]


def _fits(call: Any, line: bytes) -> bool:
    """Whether a line may be the reply to a call, or its beginning."""
    word, _, text = line.partition(b" ")
    if bool(text) is not (word in _WITH_TEXT) and not word.isdigit():
        return False
    if word == b"VALUE":
        return call.command in (b"get", b"gets") and _is_value(call, text.split())
    if word.isdigit():
        return call.command in (b"incr", b"decr") and not text.strip()
    return word in _ERRORS or word in _REPLIES.get(call.command, ())


def _is_value(call: Any, parts: list[bytes]) -> bool:
    """Whether a value is one that was asked for: its key, flags, length, and number for C{cas}."""
    count = 3 if call.command == b"get" else 4
    if len(parts) != count or not all(each.isdigit() for each in parts[1:]):
        return False
    return parts[0] in (call.keys if call.multiple else (call.key,))
