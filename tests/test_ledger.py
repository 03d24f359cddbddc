"""The ledger of the state machines complains when somebody is overtaken, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from kolus import Policy
from kolus.balance import fill_first
from kolus.manager.waiting.waiters import Waiters
from tests.rigs.groups import Teller
from tests.rigs.ledger import Ledger


class Joined(Ledger):
    """A ledger with a group of the first of two backends, where nothing is left. Three requests
    wait for the group. When it is told so, the second backend joins it."""

    def __init__(self) -> None:
        super().__init__(Policy(limit=1, backoff=None), seed=0)
        source = Teller()
        self.group = self.pool.group(source, fill_first)
        source.tell(self.backends[0])
        self.join = lambda: source.tell(*self.backends)
        self.ask("us", self.backends[0])
        for _ in range(3):
            self.ask_any("us", self.group.connect, [], None, None, "hold", False)

    def fill(self) -> Any:
        """Lease all of the second backend, and let one more request wait there."""
        for _ in range(3):
            self.ask("us", self.backends[1])
        return self.held[-1]


def test_a_lease_given_before_its_backend_joins_a_group_overtakes_nobody_there() -> None:
    ledger = Joined()
    ledger.traps["Leased"] = ledger.join
    ledger.ask("us", ledger.backends[1])
    assert ledger.trapped
    assert ledger.complaints == []


def test_nor_does_it_if_its_caller_waited() -> None:
    ledger = Joined()
    lease = ledger.fill()
    ledger.traps["Leased"] = ledger.join
    ledger.settle(lease, "release")
    assert ledger.trapped
    assert ledger.complaints == []


def test_what_is_released_after_that_is_for_the_first_of_the_group() -> None:
    ledger = Joined()
    lease = ledger.fill()
    ledger.traps["Released"] = ledger.join
    ledger.settle(lease, "release")
    assert ledger.trapped
    assert ledger.complaints == []
    assert ledger.held[-1].backend is ledger.backends[1]
    assert [each.anywhere for each in ledger.waiting()] == [True, True, False]


def test_a_manager_that_serves_its_own_queue_then_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Joined()
    lease = ledger.fill()
    ledger.traps["Released"] = ledger.join
    by_arrival = Waiters.next

    def own_first(waiters: Any, *, reused: bool = True) -> Any:
        return next(iter(waiters._waiting), None) or by_arrival(waiters, reused=reused)

    monkeypatch.setattr(Waiters, "next", own_first)
    ledger.settle(lease, "release")
    assert ledger.trapped
    assert len(ledger.complaints) == 1
    assert "had asked before somebody" in ledger.complaints[0]


def test_a_lease_that_ended_before_its_holder_had_it_is_one_all_the_same() -> None:
    ledger = Ledger(Policy(limit=4), seed=0)
    one = ledger.backends[0]
    ledger.fakes[0].never_answer()
    ledger.traps["Leased"] = lambda: ledger.waiting()[0].deferred.cancel()  # type: ignore[union-attr]
    for _ in range(2):
        ledger.ask("us", one, fresh=True)
    ledger.ask("us", one)
    assert ledger.held[-1].reused
    assert [each.fresh for each in ledger.waiting()] == [True]
    assert ledger.complaints == []
