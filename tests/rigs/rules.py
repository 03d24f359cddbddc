"""C{Rules}: what the rules of all state machines refer to."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine
from twisted.internet.defer import Deferred

from tests.rigs.ledger import Ledger

__all__ = ["Rules"]


class Rules(RuleBasedStateMachine):
    """A machine with a ledger.

    @cvar slots: the policy's.
    @cvar idents: the policy's.
    @cvar who: the idents that ask.
    @cvar count: how many backends there are.
    @ivar owners: the owners made so far, some of which have ended.
    @ivar endings: the results of each call of C{drain} and C{close}.
    @ivar age: the number of steps of this run.
    """

    slots: ClassVar[int | None] = None
    idents: ClassVar[Any] = "reject"
    who: ClassVar[str] = "aaab"
    count: ClassVar[int] = 2
    ledger: Ledger
    owners: list[Any]
    endings: list[list[object]]
    age: int

    def ident(self, which: int) -> str:
        return self.who[which % len(self.who)]

    def warmed(self, which: int | None) -> str | None:
        """For whom to warm; C{None}: for the ident that asks first."""
        return None if which is None else self.ident(which)

    def owner(self, which: int) -> Any:
        """An owner, which may have ended, or C{None}."""
        places = [None] * 3 + self.owners
        return places[which % len(places)]

    def protocols(self) -> list[Any]:
        """The protocols of all connections that are not closed, also of those that have left."""
        ledger = self.ledger
        connections = [each for manager in ledger.managers for each in manager.connections.all]
        found = [each.protocol for each in connections if hasattr(each, "protocol")]
        return found + [each.protocol for each in ledger.detached]

    def end(self, ending: Deferred[None]) -> None:
        results: list[object] = []
        ending.addBoth(results.append)
        self.endings.append(results)
