"""Rules 24, 25 and 27, on a clock: an operator changes settings while the pool runs."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from kolus import Backend, LeaseTimeout, Policy, Pool, PoolFull
from kolus.events import Event, Paused, Resized, Resumed, Retired, Why
from kolus.status import State
from kolus.support import descriptors
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs.either import either, use

slotted = pytest.mark.parametrize("slots", [None, 1], ids=["exclusive", "shared"])


class Operated:
    """A pool of limit 3 with three backends, the last of which has a limit of its own, 5."""

    def __init__(self, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(3)]
        limits = (None, None, 5)
        self.backends = [
            Backend(fake, name=name, limit=limit)
            for fake, name, limit in zip(self.fakes, "abc", limits, strict=True)
        ]
        self.events: list[Event] = []
        self.pool: Pool[Any] = Pool(
            self.clock,
            Protocol,
            policy=Policy(**({"limit": 3} | policy)),
            observers=[self.events.append],
        )

    def ask(self, number: int = 0, **options: Any) -> Any:
        return self.pool.connect("us", self.backends[number], **options)

    def lease(self, number: int = 0) -> Any:
        return result_of(self.ask(number))

    def start(self) -> None:
        """Make all three managers."""
        for number in range(3):
            self.lease(number).release()

    def limits(self) -> list[int]:
        return [each.limit for each in self.pool.status(self.backends)]

    def names(self, kind: type[Event]) -> list[str | None]:
        return [each.backend.name for each in self.events if type(each) is kind]

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


def assert_waits(asked: Any) -> None:
    with pytest.raises(NotFired):
        result_of(asked)


# 24: growing


@either
def test_a_larger_limit_serves_those_who_wait_at_once(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    held = [rig.lease()]
    waiting = [rig.ask() for _ in range(3)]
    rig.manager.resize(3)
    held += [result_of(each) for each in waiting[:2]]
    assert_waits(waiting[2])
    assert rig.numbers() == (0, 3, 0, 0, 1)
    for lease in held:
        lease.release()
    result_of(waiting[2]).release()


@either
def test_a_larger_limit_admits_more_where_no_request_may_wait(rig_of: Any) -> None:
    rig = rig_of(limit=10, max_waiters=0)
    leases = [rig.lease() for _ in range(10)]
    with pytest.raises(PoolFull):
        result_of(rig.ask())
    rig.manager.resize(20)
    leases += [rig.lease() for _ in range(10)]
    with pytest.raises(PoolFull):
        result_of(rig.ask())
    for lease in leases:
        lease.release()


# 24: shrinking


@either
def test_a_smaller_limit_closes_what_was_idle_longest(rig_of: Any) -> None:
    rig = rig_of(limit=4, observed=True)
    use(rig, 4)
    rig.clock.advance(1)
    recent = rig.lease()
    transport = recent.protocol.transport
    recent.release()
    rig.manager.resize(1)
    rig.turn()
    assert rig.numbers() == (1, 0, 0, 0, 0)
    assert transport.connected
    assert [each.why for each in rig.events if isinstance(each, Retired)] == [Why.RESIZED] * 3


@either
def test_a_smaller_limit_cuts_off_no_lease(rig_of: Any) -> None:
    rig = rig_of(limit=3)
    leases = [rig.lease() for _ in range(3)]
    rig.manager.resize(1)
    rig.turn()
    assert len(rig.fake.connections) == 3
    waiting = rig.ask()
    for lease in leases:
        lease.protocol.transport.write(b"still here")
        lease.release()
    assert [each.received for each in rig.fake.accepted] == [b"still here"] * 3
    rig.turn()
    result_of(waiting).release()
    assert rig.numbers() == (1, 0, 0, 0, 0)
    assert len(rig.fake.connections) == 1


@either
def test_a_smaller_limit_gives_up_connects_beyond_it_and_serves_all_the_same(rig_of: Any) -> None:
    rig = rig_of(limit=2)
    rig.fake.accept(after=1, always=True)
    waiting = [rig.ask().addCallback(lambda lease: lease.release()) for _ in range(2)]
    rig.manager.resize(1)
    rig.clock.pump([1, 1])
    assert [result_of(each) for each in waiting] == [None, None]
    assert len(rig.fake.accepted) == 1


@either
def test_a_limit_that_goes_down_and_up_again_loses_no_slot(rig_of: Any) -> None:
    rig = rig_of(limit=4)
    leases = [rig.lease() for _ in range(4)]
    for limit in (1, 3, 2, 6):
        rig.manager.resize(limit)
    for lease in leases:
        lease.release()
    rig.turn()
    assert len([rig.lease() for _ in range(6)]) == 6


@either
def test_resizing_to_the_same_limit_is_no_event(rig_of: Any) -> None:
    rig = rig_of(limit=2, observed=True)
    rig.manager.resize(2)
    rig.manager.resize(3)
    assert [each for each in rig.events if isinstance(each, Resized)] == [
        Resized(rig.manager.backend, "us", 3)
    ]


@either
@pytest.mark.parametrize("limit", [0, -1, 1.5, None, True, "2"])
def test_what_is_no_limit_changes_nothing(rig_of: Any, limit: Any) -> None:
    rig = rig_of(limit=2)
    with pytest.raises(ValueError, match="limit must be a whole number of at least 1"):
        rig.manager.resize(limit)
    assert rig.manager.status().limit == 2


# 24: by the pool


@slotted
def test_a_backend_alone_can_be_resized(slots: int | None) -> None:
    rig = Operated(slots=slots)
    rig.start()
    rig.pool.resize(7, rig.backends[0])
    assert rig.limits() == [7, 3, 5]
    assert rig.names(Resized) == ["a"]
    assert len([rig.lease() for _ in range(7)]) == 7


@slotted
def test_resizing_all_spares_those_with_a_limit_of_their_own(slots: int | None) -> None:
    rig = Operated(slots=slots)
    rig.start()
    rig.pool.resize(7)
    assert rig.limits() == [7, 7, 5]
    assert rig.names(Resized) == ["a", "b"]


@slotted
def test_a_backend_resized_once_has_a_limit_of_its_own_from_then_on(slots: int | None) -> None:
    rig = Operated(slots=slots)
    rig.start()
    rig.pool.resize(2, rig.backends[0])
    rig.pool.resize(9)
    assert rig.limits() == [2, 9, 5]
    rig.pool.resize(4, rig.backends[2])
    assert rig.limits() == [2, 9, 4]


@slotted
def test_a_limit_holds_for_managers_that_are_made_later(slots: int | None) -> None:
    rig = Operated(slots=slots)
    rig.pool.resize(2)
    rig.pool.resize(1, rig.backends[1])
    rig.pool.resize(4, rig.backends[2])
    assert rig.limits() == [2, 1, 4]
    for number, limit in enumerate(rig.limits()):
        leases = [rig.lease(number) for _ in range(limit)]
        assert_waits(rig.ask(number))
        del leases


@slotted
def test_a_limit_holds_for_the_manager_that_comes_after_one_that_has_gone(
    slots: int | None,
) -> None:
    rig = Operated(slots=slots)
    rig.start()
    rig.pool.resize(2, rig.backends[0])
    drained = rig.pool.drain(rig.backends[0])
    rig.turn()
    result_of(drained)
    rig.lease().release()
    assert rig.limits()[0] == 2


def test_the_pool_refuses_what_is_no_limit() -> None:
    rig = Operated()
    with pytest.raises(ValueError, match="limit must be a whole number"):
        rig.pool.resize(0)
    assert rig.limits() == [3, 3, 5]
    assert rig.pool.policy.limit == 3


# 25: pause and resume


@slotted
def test_one_backend_is_paused_and_the_others_serve(slots: int | None) -> None:
    rig = Operated(slots=slots)
    rig.start()
    rig.pool.pause(rig.backends[0])
    waiting = rig.ask(0)
    rig.lease(1).release()
    assert_waits(waiting)
    assert rig.names(Paused) == ["a"]
    rig.pool.resume(rig.backends[0])
    result_of(waiting).release()
    assert rig.names(Resumed) == ["a"]


@slotted
def test_all_are_paused_and_those_made_later_too(slots: int | None) -> None:
    rig = Operated(slots=slots)
    rig.lease(0).release()
    rig.pool.pause()
    waiting = [rig.ask(number) for number in range(3)]
    for each in waiting:
        assert_waits(each)
    assert [fake.attempts for fake in rig.fakes] == [1, 0, 0]
    assert rig.names(Paused) == ["a", "b", "c"]
    rig.pool.resume()
    for each in waiting:
        result_of(each).release()
    assert rig.names(Resumed) == ["a", "b", "c"]


@slotted
def test_pausing_twice_and_resuming_what_was_not_paused_are_no_events(slots: int | None) -> None:
    rig = Operated(slots=slots)
    rig.start()
    rig.pool.resume()
    rig.pool.pause()
    rig.pool.pause(rig.backends[0])
    rig.pool.resume()
    rig.pool.resume(rig.backends[0])
    assert len(rig.names(Paused)) == len(rig.names(Resumed)) == 3


@slotted
def test_those_who_waited_come_first_after_a_pause(slots: int | None) -> None:
    rig = Operated(slots=slots, limit=1)
    rig.start()
    rig.pool.pause()
    order: list[int] = []
    for number in range(3):
        rig.ask().addCallback(lambda lease, number=number: (order.append(number), lease.release()))
    assert rig.pool.try_connect("us", rig.backends[0]) is None
    rig.pool.resume()
    assert order == [0, 1, 2]


@slotted
def test_while_it_is_paused_its_idle_connections_end_and_its_waiters_time_out(
    slots: int | None,
) -> None:
    rig = Operated(slots=slots, min_idle=1)
    rig.start()
    rig.pool.pause()
    asked = rig.ask(timeout=2)
    rig.clock.pump([1] * 2000)
    with pytest.raises(LeaseTimeout, match="paused"):
        result_of(asked)
    assert not rig.fakes[0].connections
    assert rig.pool.status(rig.backends[:1])[0].state is State.PAUSED


@slotted
def test_a_paused_pool_can_be_resized_and_invalidated(slots: int | None) -> None:
    rig = Operated(slots=slots, limit=1)
    rig.start()
    rig.pool.pause()
    waiting = [rig.ask(), rig.ask()]
    rig.pool.resize(2)
    rig.pool.invalidate()
    rig.turn()
    for each in waiting:
        assert_waits(each)
    rig.pool.resume()
    leases = [result_of(each) for each in waiting]
    assert [lease.reused for lease in leases] == [False, False]


# 27: descriptors


def warned(events: list[LogEvent]) -> list[int]:
    return [each["total"] for each in events if "descriptors" in str(each.get("log_format"))]


@slotted
def test_a_pool_warns_once_when_its_limits_come_near_the_descriptors(
    slots: int | None, monkeypatch: pytest.MonkeyPatch, log_events: list[LogEvent]
) -> None:
    monkeypatch.setattr(descriptors, "resource", FewDescriptors())
    rig = Operated(slots=slots, limit=50)
    rig.lease(0).release()
    rig.lease(0).release()
    assert warned(log_events) == []
    rig.lease(1).release()
    assert warned(log_events) == [100]
    rig.lease(2).release()
    rig.pool.resize(200)
    assert warned(log_events) == [100]


@slotted
def test_a_larger_limit_may_be_what_comes_too_near(
    slots: int | None, monkeypatch: pytest.MonkeyPatch, log_events: list[LogEvent]
) -> None:
    monkeypatch.setattr(descriptors, "resource", FewDescriptors())
    rig = Operated(slots=slots)
    rig.start()
    assert warned(log_events) == []
    rig.pool.resize(90, rig.backends[1])
    assert warned(log_events) == [98]


class FewDescriptors:
    """The module C{resource} of a process that may have a hundred descriptors."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def getrlimit(self, which: int) -> tuple[int, int]:
        return 100, 100
