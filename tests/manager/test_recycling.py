"""Rules 16 and 17, on a clock: connections are replaced before they expire, or all at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol

from kolus import ConnectFailed
from kolus.backoff import Backoff
from kolus.events import Connected, Event, Retired, Why
from kolus.status import State
from kolus.testing import NotFired, result_of
from tests.rigs.either import either, use
from tests.rigs.pools import Pooled


def retired(rig: Any) -> list[Why]:
    return [each.why for each in rig.events if isinstance(each, Retired)]


# 16: most uses


@either
def test_a_connection_that_was_leased_as_often_as_it_may_be_is_closed_at_home(rig_of: Any) -> None:
    rig = rig_of(max_uses=3, observed=True)
    for _ in range(7):
        use(rig)
        rig.turn()
    assert rig.fake.attempts == 3
    assert retired(rig) == [Why.USES, Why.USES]


@either
def test_the_last_use_of_a_connection_counts_as_released(rig_of: Any) -> None:
    rig = rig_of(max_uses=1)
    use(rig)
    rig.turn()
    counters = rig.manager.counters
    assert (counters.releases, counters.finishes, counters.closes) == (1, 0, 1)


@either
def test_a_connection_in_its_last_use_is_not_cut_off(rig_of: Any) -> None:
    rig = rig_of(max_uses=1)
    lease = rig.lease()
    rig.turn()
    lease.protocol.transport.write(b"still here")
    assert rig.fake.connections[0].received == b"still here"
    lease.release()


@either
def test_who_waits_for_a_connection_in_its_last_use_gets_the_next(rig_of: Any) -> None:
    rig = rig_of(limit=1, max_uses=1)
    held = rig.lease()
    waiting = rig.ask()
    held.release()
    with pytest.raises(NotFired):
        result_of(waiting)
    rig.turn()
    assert not result_of(waiting).reused


# 16: idle timeout and lifetime


@either
def test_no_connection_outlives_its_lifetime_while_nobody_has_it(rig_of: Any) -> None:
    rig = rig_of(limit=5, lifetime=100, idle_timeout=None)
    use(rig, 4)
    ages: list[float] = []
    for _ in range(1000):
        use(rig, 4)
        ages += [each.age for each in rig.manager.connections.idle]
        rig.clock.advance(0.5)
    assert max(ages) < 100


@either
def test_a_lease_is_not_cut_off_by_the_lifetime_and_ends_it(rig_of: Any) -> None:
    rig = rig_of(lifetime=100, leak_after=None, observed=True)
    lease = rig.lease()
    rig.clock.advance(1000)
    lease.protocol.transport.write(b"still here")
    assert rig.fake.accepted[0].received == b"still here"
    lease.release()
    rig.turn()
    assert not rig.fake.accepted[0].open
    assert retired(rig) == [Why.LIFETIME]


@either
@pytest.mark.parametrize("limit", [2, 10])
@pytest.mark.parametrize("burst", ["to the limit", "below it"])
def test_no_two_of_a_burst_are_recycled_within_lifetime_by_limit(
    rig_of: Any, limit: int, burst: str
) -> None:
    rig = rig_of(limit=limit, lifetime=1000, idle_timeout=None, observed=True)
    size = limit if burst == "to the limit" else limit - 1
    times: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, Retired):
            times.append(rig.clock.seconds())

    rig.manager.observers.append(note)
    use(rig, size)
    for _ in range(4000):
        rig.clock.advance(1)
        use(rig, size)
    assert len(times) > 3 * size
    assert min(after - before for before, after in pairwise(times)) >= 1000 / limit - 1


# 16: make before break


@either
def test_an_idle_connection_is_replaced_before_it_is_closed(rig_of: Any) -> None:
    rig = rig_of(limit=2, lifetime=100, idle_timeout=None, observed=True)
    use(rig)
    while rig.fake.attempts < 2:
        assert len(rig.fake.connections) == 1
        rig.clock.advance(1)
    assert [type(each) for each in rig.events[-2:]] == [Connected, Retired]
    assert rig.clock.seconds() == pytest.approx(85)  # 100, less half of 20 %, less 5 ahead
    assert not rig.fake.accepted[0].open
    assert rig.numbers()[0] == 1


@either
def test_while_the_replacement_is_on_its_way_the_old_one_serves(rig_of: Any) -> None:
    rig = rig_of(limit=2, lifetime=100, idle_timeout=None)
    use(rig)
    rig.fake.accept(after=3)
    rig.clock.advance(86)
    assert rig.numbers()[:3] == (1, 0, 1)
    lease = rig.lease()
    assert lease.reused
    rig.clock.advance(3)
    lease.protocol.transport.write(b"still here")
    assert rig.fake.accepted[0].received == b"still here"
    lease.release()
    rig.turn()
    assert [each.open for each in rig.fake.accepted] == [False, True]


@either
def test_a_leased_connection_is_replaced_before_it_comes_home(rig_of: Any) -> None:
    rig = rig_of(limit=2, lifetime=100, idle_timeout=None, leak_after=None)
    lease = rig.lease()
    rig.clock.advance(86)
    assert rig.numbers()[:2] == (1, 1)
    lease.release()
    rig.turn()
    assert [each.open for each in rig.fake.accepted] == [False, True]


@either
def test_at_the_limit_the_old_one_has_to_go_first(rig_of: Any) -> None:
    rig = rig_of(limit=1, lifetime=100, idle_timeout=None)
    use(rig)
    rig.clock.advance(89)
    use(rig)
    assert (rig.fake.attempts, len(rig.fake.connections)) == (1, 1)
    rig.clock.advance(2)
    rig.turn()
    assert not rig.fake.connections
    use(rig)
    assert rig.fake.attempts == 2


@either
def test_a_replacement_that_fails_does_not_close_the_old_one_before_its_time(rig_of: Any) -> None:
    rig = rig_of(limit=2, lifetime=100, idle_timeout=None, backoff=Backoff(first=1, most=1))
    use(rig)
    rig.fake.refuse(always=True)
    rig.clock.pump([1] * 89)
    assert rig.manager.counters.connect_failures > 3
    use(rig)
    assert rig.fake.accepted[0].open
    rig.clock.pump([1] * 2)
    with pytest.raises(ConnectFailed):
        rig.lease()
    assert not rig.fake.accepted[0].open


@either
@pytest.mark.parametrize("lifetime", [40, 100, 1800])
def test_a_pool_that_nobody_uses_is_empty_in_the_end(rig_of: Any, lifetime: float) -> None:
    rig = rig_of(limit=5, lifetime=lifetime)
    use(rig, 4)
    rig.clock.pump([1] * 200)
    assert rig.numbers() == (0, 0, 0, 5, 0)
    assert rig.fake.attempts <= 8
    rig.clock.advance(300)
    assert rig.manager.status().state is State.CLOSED


@either
def test_one_that_is_finished_as_it_is_about_to_expire_is_not_replaced(rig_of: Any) -> None:
    rig = rig_of(limit=2, lifetime=100, leak_after=None)
    lease = rig.lease()
    rig.fake.refuse()
    rig.clock.advance(86)
    lease.finished()
    rig.clock.pump([0, 0, 60])
    assert rig.fake.attempts == 2


@either
def test_a_connection_that_is_waited_for_takes_the_place_of_one_about_to_expire(
    rig_of: Any,
) -> None:
    rig = rig_of(limit=2, lifetime=100, leak_after=None, idle_timeout=None)
    held = rig.lease()
    rig.fake.accept(after=3)
    rig.clock.advance(86)
    waiting = rig.ask()
    rig.clock.advance(3)
    second = result_of(waiting)
    assert rig.fake.attempts == 2
    held.release()
    second.release()
    rig.turn()
    assert rig.numbers() == (1, 0, 0, 1, 0)


# 17: invalidate


@either
def test_invalidating_closes_what_is_idle_now_and_the_manager_goes_on(rig_of: Any) -> None:
    rig = rig_of(observed=True)
    use(rig, 2)
    rig.manager.invalidate()
    assert rig.numbers()[0] == 0
    rig.turn()
    assert not rig.fake.connections
    assert retired(rig) == [Why.INVALIDATED] * 2
    assert not rig.lease().reused
    assert rig.manager.status().state is State.OPEN


@either
def test_what_is_leased_while_it_is_invalidated_is_closed_at_home(rig_of: Any) -> None:
    rig = rig_of(observed=True)
    lease = rig.lease()
    rig.manager.invalidate()
    rig.turn()
    lease.protocol.transport.write(b"still here")
    assert rig.fake.accepted[0].received == b"still here"
    lease.release()
    rig.turn()
    assert not rig.fake.connections
    assert retired(rig) == [Why.INVALIDATED]


@either
def test_what_is_connecting_while_it_is_invalidated_is_made_anew_for_who_waits(
    rig_of: Any,
) -> None:
    rig = rig_of(limit=1)
    rig.fake.accept(after=2).accept(after=1)
    waiting = rig.ask()
    rig.clock.advance(1)
    rig.manager.invalidate()
    assert rig.fake.attempts == 2
    rig.clock.advance(1)
    assert result_of(waiting).held
    assert len(rig.fake.accepted) == 1
    assert rig.manager.counters.connect_failures == 0


@either
def test_what_is_connecting_for_nobody_is_not_made_anew(rig_of: Any) -> None:
    rig = rig_of()
    rig.fake.accept(after=2)
    asked = rig.ask()
    asked.cancel()
    rig.manager.invalidate()
    rig.clock.advance(5)
    assert rig.numbers() == (0, 0, 0, 2, 0)
    assert rig.fake.attempts == 1
    with pytest.raises(CancelledError):
        result_of(asked)


@either
def test_what_is_checked_while_it_is_invalidated_is_not_handed_out(rig_of: Any) -> None:
    answers: list[Any] = []

    def check(protocol: Protocol) -> Any:
        answers.append(Deferred())
        return answers[-1]

    rig = rig_of(limit=1, check=check, check_after=1)
    use(rig)
    rig.clock.advance(1)
    waiting = rig.ask()
    rig.manager.invalidate()
    answers[0].callback(None)
    rig.turn()
    assert not result_of(waiting).reused


@either
def test_invalidating_keeps_the_head_room(rig_of: Any) -> None:
    rig = rig_of(limit=4, min_idle=2)
    use(rig)
    before = set(rig.fake.connections)
    rig.manager.invalidate()
    rig.turn()
    assert rig.manager.status().idle == 3 - 1
    assert not before & set(rig.fake.connections)


def test_a_pool_invalidates_one_backend_or_all() -> None:
    rig = Pooled()
    for backend in rig.backends:
        result_of(rig.pool.connect("us", backend)).release()
    rig.pool.invalidate(rig.backends[0])
    rig.turn()
    assert [len(each.connections) for each in rig.fakes] == [0, 1, 1]
    rig.pool.invalidate()
    rig.turn()
    assert [len(each.connections) for each in rig.fakes] == [0, 0, 0]
    result_of(rig.pool.connect("us", rig.backends[0])).release()


def test_invalidating_a_backend_without_a_manager_is_harmless() -> None:
    rig = Pooled()
    rig.pool.invalidate("tcp:localhost:1")
    rig.pool.invalidate()
    assert rig.pool.status() == []
