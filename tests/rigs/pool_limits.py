"""The rig for the tests of a pool's limit: backends on a clock, and what must hold at each step."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kolus import Backend, Lease, Policy, Pool
from kolus.events import Event, Retired, Why
from kolus.manager import BackendRecord
from kolus.testing import FakeBackend, result_of
from tests.rigs.group_queues import queues_of
from tests.rigs.pools import Half
from tests.rigs.sharing import Hears

__all__ = ["LimitedPool", "is_waiting"]


def is_waiting(request: Deferred[Lease[Any]]) -> bool:
    return not request.called


class LimitedPool:
    """A pool with a limit over several backends: C{a}, C{b} and so on."""

    def __init__(self, limit: int | None, /, backends: int = 3, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = {name: FakeBackend(self.clock) for name in "abcdefghij"[:backends]}
        self.backends = {name: Backend(fake, name=name) for name, fake in self.fakes.items()}
        self.events: list[Event] = []
        self._kept: list[Lease[Any]] = []
        self.pool: Pool[Any] = Pool(
            *(self.clock, Hears),
            policy=Policy(**({"idents": "separate", "lifetime": None} | policy)),
            limit=limit,
            observers=[self.events.append],
            rng=Half(),
        )

    def ask(self, name: str, ident: str = "us", **options: Any) -> Deferred[Lease[Any]]:
        return self.pool.connect(ident, self.backends[name], **options)

    def lease(self, name: str, ident: str = "us") -> Lease[Any]:
        """Lease, and keep the lease from being forgotten."""
        self._kept.append(lease := result_of(self.ask(name, ident)))
        return lease

    def open(self, name: str | None = None) -> int:
        """The connections that one backend sees, or all of them."""
        fakes = self.fakes.values() if name is None else [self.fakes[name]]
        return sum(len(each.connections) for each in fakes)

    def retired(self) -> list[tuple[str, Any, Why]]:
        told = [each for each in self.events if isinstance(each, Retired)]
        return [(each.backend.name or "", each.ident, each.why) for each in told]

    def turn(self) -> None:
        """Run everything that was put off to a later turn of the reactor."""
        for _ in range(4):
            self.check()
            self.clock.advance(0)
        self.check()

    def check(self) -> None:
        """The limit holds, what is counted is true, and nothing idle is kept from a waiter."""
        budget = self.pool._managers.records.budget
        records = list(self.pool._managers.records)
        assert budget.used == sum(len(each.all) for each in records)
        ending = {connection for each in records for connection in each.closing}
        assert ending <= budget.leaving <= {one for each in records for one in each.all}
        assert set(budget.holders) == {each for each in records if each.all}
        if self.pool.limit is None or budget.room_to_come() < 0:
            return  # in the latter case nothing idle is left
        assert len(self._in_use()) <= self.pool.limit
        short = [each for each in records if self._is_short(each)]
        if budget.room_to_come() < max(1, len(short)):
            assert budget.obtainable() <= 0 or not (short or self._short_queues()), (
                f"{short} or a group waits although there is room, or something is idle:\n"
                f"{budget.used} used, {len(budget.leaving)} leave, {budget.wanting}\n"
                f"{self.pool.explain()}"
            )

    def _in_use(self) -> list[Any]:
        """The connections that a lowered limit has not marked to be closed."""
        budget = self.pool._managers.records.budget
        everything = [one for each in self.pool._managers.records for one in each.all]
        too_many = len(everything) > (self.pool.limit or 0)
        return [each for each in everything if not (too_many and each in budget.leaving)]

    @staticmethod
    def _is_short(record: BackendRecord) -> bool:
        """Whether somebody waits at a backend that lacks nothing but a slot of the pool."""
        members = [
            each for each in record.members if each.wants_connection() and each.waiters.is_short()
        ]
        return bool(members) and record.room.has_own()

    def _short_queues(self) -> list[Any]:
        """The queues of groups with somebody for whom no connection is on its way, although there
        is a backend that lacks nothing but a slot of the pool."""
        managers, found = self.pool._managers, []
        for queue in queues_of(managers.records.group_queues):
            stuck = [
                each for each in queue.waiting if not each.placement.placements.is_connecting()
            ]
            for backend in queue.backends.values() if stuck and queue.is_short() else ():
                record = managers.records.find(backend.key)
                manager = managers.at.get(backend.key, {}).get(queue.ident)
                serves = managers.may_make(backend) if manager is None else manager.serves()  # type: ignore[attr-defined]
                if serves and (record is None or record.room.has_own()):
                    found.append(queue)
        return found

    def end(self) -> None:
        """Settle all, close, and check that nothing is left behind."""
        for lease in self._kept:
            if lease.held:
                lease.release()
        closed = self.pool.close(0)
        self.clock.pump([0, 0, 60, 0])
        result_of(closed)
        assert not self.open()
        assert not self.clock.getDelayedCalls()
        counters = self.pool.counters()
        settled = counters.releases + counters.finishes + counters.forgotten + counters.detached
        assert counters.leases == settled
        assert counters.connects == counters.closes + counters.detached
        budget = self.pool._managers.records.budget
        assert (budget.used, len(budget.leaving), len(budget.holders)) == (0, 0, 0)
