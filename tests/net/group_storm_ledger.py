"""The counts of the group storm: what its callers saw at each backend."""

from __future__ import annotations

from collections import Counter

from kolus.events import Admitted, Ejected, Event, ProbeDue

__all__ = ["Ledger"]

MOST_TOLD = 20


class Ledger:
    """What the callers, and the pool's observers, have met at each backend, by its name.

    @ivar leases: how many were given.
    @ivar failures: of these, how many had no reply.
    @ivar unserved: how many requests had no lease, by the error.
    @ivar longest_wait: for a lease, whatever it came to, in seconds.
    @ivar late: how many waited past their deadline.
    """

    def __init__(self) -> None:
        self.leases: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.events: Counter[tuple[str, type[Event]]] = Counter()
        self.unserved: Counter[str] = Counter()
        self.longest_wait = 0.0
        self.late = 0
        self.replies = 0
        self.violations: list[str] = []

    def observe(self, event: Event) -> None:
        if isinstance(event, Ejected | ProbeDue | Admitted):
            self.events[str(event.backend), type(event)] += 1

    def violated(self, what: str) -> None:
        if len(self.violations) < MOST_TOLD:
            self.violations.append(what)
