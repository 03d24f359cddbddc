"""The protocols that the state machines lease; they report to their ledger."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.interfaces import ISlots

__all__ = ["SLOTS", "Halved", "Multiplexed", "Speaker"]

SLOTS = 3


class Speaker(Protocol):
    """Runs the ledger's trap when its connection is made or lost.

    @ivar served: the ident that it has served.
    @ivar first_lease: the number of its first lease.
    @ivar is_silent: whether its peer has died without a word.
    @ivar under_way: whether something was left under way on it.
    @ivar ends: how often the loss of its connection was told.
    """

    served: Hashable = None
    first_lease: int | None = None
    is_silent = under_way = False
    ends = 0

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        ledger.made.append(self)

    def connectionMade(self) -> None:
        self._ledger.spring("made")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.ends += 1
        self._ledger.spring("lost")


@implementer(ISlots)
class Multiplexed(Speaker):
    """Reports how many leases it can carry. The ledger says with how many it begins."""

    def __init__(self, ledger: Any) -> None:
        super().__init__(ledger)
        self.slots = ledger.first_slots

    def watch_slots(self, changed: Callable[[], object]) -> None:
        self._changed = changed

    def change(self, slots: int) -> None:
        self.slots = slots
        self._changed()


@implementer(IHalfCloseableProtocol)
class Halved(Speaker):
    """Supports half-close, and answers only every second one by closing its own half."""

    def readConnectionLost(self) -> None:
        assert self.transport is not None
        if self._ledger.chance.random() < 0.5:
            self._ledger.blows += 1
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass
