"""Upgrades: a connection whose response was 101 speaks another protocol."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocol

__all__ = ["Upgraded", "hand_over", "take_over"]

_UPGRADED = "_kolus_upgraded"  # where a response of 101 carries its connection


class Upgraded:
    """A connection that waits for the protocol that is to take it over."""

    def __init__(self, exchange: Any, rest: bytes) -> None:
        """
        @param rest: what came after the response.
        """
        self._exchange = exchange
        self._rest = rest

    def become(self, protocol: IProtocol) -> None:
        transport = self._exchange.transport
        self._exchange.heir = protocol
        protocol.makeConnection(transport)
        if self._rest:
            protocol.dataReceived(self._rest)
        transport.resumeProducing()


def hand_over(response: Any, exchange: Any, rest: bytes) -> None:
    """Let a response carry its connection to C{take_over}."""
    setattr(response, _UPGRADED, Upgraded(exchange, rest))


def take_over(response: Any, protocol: IProtocol) -> None:
    """Speak another protocol on the connection of a response of 101 (Switching Protocols).

    Such a connection has left the pool when the response comes: it is yours alone. Nothing is read
    from it before this is called.

    @param response: what C{Agent.request} gave for a request with an C{Upgrade} header.
    @param protocol: is connected at once, and gets what came after the response first.
    @raise ValueError: the response has another code, or its connection has been taken over.
    """
    upgraded = vars(response).pop(_UPGRADED, None)
    if upgraded is None:
        raise ValueError(
            f"take_over needs a response of 101 to a request with an Upgrade header, once; this "
            f"response is {response.code}"
        )
    upgraded.become(protocol)
