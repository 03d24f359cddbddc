"""C{OneProtocol}: the factory of one attempt to connect."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IFileDescriptorReceiver, IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from zope.interface.declarations import Provides

from kolus.support import place_of_mistake

if TYPE_CHECKING:
    from kolus.connection.connection import Connection

__all__ = ["OneProtocol"]

_OPTIONAL = (IHalfCloseableProtocol, IFileDescriptorReceiver)
_provides: Any = lru_cache(Provides)  # it keeps them itself, but takes longer to find them


class OneProtocol(Factory):
    """Makes the user's protocol for one attempt, and puts the connection in its place."""

    noisy = False

    def __init__(self, connection: Connection[Any], make: Callable[[], Any]) -> None:
        """
        @param make: makes the user's protocol.
        """
        self._connection = connection
        self._make = make

    def buildProtocol(self, addr: object) -> Connection[Any] | None:  # type: ignore[override]
        """
        @return: the connection; C{None} if this attempt has been given up.
        """
        connection = self._connection
        if connection.was_made():
            return None
        try:
            protocol = self._make()
            if not callable(getattr(protocol, "dataReceived", None)):
                raise TypeError(f"not a protocol, it has no dataReceived: {protocol!r}")
            if getattr(getattr(protocol, "transport", None), "connected", False):
                raise TypeError(f"connected already, make one for each connection: {protocol!r}")
        except BaseException as error:
            connection.mistake = error
            connection.but = (
                f"its protocol could not be made, at {place_of_mistake(error, self._make)}"
            )
            raise
        connection.protocol = protocol
        claimed = [each for each in _OPTIONAL if each.providedBy(protocol)]
        if claimed:  # as directlyProvides, which takes ten times as long
            its: Any = connection
            its.__provides__ = _provides(type(connection), *claimed)
        return connection
