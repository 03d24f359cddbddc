"""C{OperationRules}: what an operator does at random."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.rigs.draws import SECONDS, SIDES, WHICH
from tests.rigs.rules import Rules

__all__ = ["OperationRules"]


class OperationRules(Rules):
    """Resizes, pauses, invalidates, drains and closes."""

    @rule(side=st.sampled_from([0, 1, None]), limit=st.integers(1, 5))
    def resize(self, side: int | None, limit: int) -> None:
        self._resize(side, limit)

    def _resize(self, side: int | None, limit: int) -> None:
        ledger = self.ledger
        chosen = ledger.backends if side is None else [ledger.backends[side]]
        for each in chosen:
            ledger.ceiling[each] = max(ledger.ceiling[each], limit)
        ledger.pool.resize(limit, None if side is None else ledger.backends[side])

    @rule(limit=st.sampled_from([None, 1, 2, 3, 4, 5]))
    def resize_pool(self, limit: int | None) -> None:
        self.ledger.was_limited |= limit is not None
        self.ledger.most_in_pool = self.ledger.used_in_pool()
        self.ledger.pool.resize_pool(limit)

    @rule(side=st.sampled_from([0, 1, None]), how=st.sampled_from(["pause", "resume", "resume"]))
    def pause(self, side: int | None, how: str) -> None:
        backend = None if side is None else self.ledger.backends[side]
        getattr(self.ledger.pool, how)(backend)

    @rule(side=st.sampled_from([0, 1, None]))
    def invalidate(self, side: int | None) -> None:
        self.ledger.pool.invalidate(None if side is None else self.ledger.backends[side])

    @precondition(lambda self: self.age % 4 == 3)
    @rule(side=SIDES)
    def drain(self, side: int) -> None:
        self.end(self.ledger.pool.drain(self.ledger.backends[side]))

    @precondition(lambda self: self.age % 8 == 7)
    @rule(which=WHICH, timeout=SECONDS)
    def close(self, which: int, timeout: float) -> None:
        managers = self.ledger.managers
        if managers:
            self.end(managers[which % len(managers)].close(timeout))

    @precondition(lambda self: self.age > 30 and self.age % 8 == 7)
    @rule(timeout=SECONDS)
    def close_pool(self, timeout: float) -> None:
        self.end(self.ledger.pool.close(timeout))
