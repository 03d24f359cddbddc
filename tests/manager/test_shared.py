"""C{SharedManager}, on a clock: leases are slots, and each connection carries several."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from kolus import (
    Backend,
    Lease,
    LeaseError,
    LeaseTimeout,
    Policy,
    Pool,
    PoolFull,
    SharedManager,
    WrongIdent,
)
from kolus.events import Event, Leased, Retired, Why
from kolus.testing import NotFired, result_of
from tests.rigs.sharing import Hears, Sharing

# Leases are slots


def test_a_policy_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a Policy with slots"):
        SharedManager(Sharing().clock, Hears, Backend("tcp:x:1"), "us", Policy())


def test_a_policy_with_slots_and_a_reset_is_refused() -> None:
    with pytest.raises(ValueError, match="reset"):
        Policy(slots=2, reset=lambda protocol: None)


def test_leases_share_a_connection_until_its_slots_are_full() -> None:
    rig = Sharing()
    leases = rig.take(3)
    assert len({lease.protocol for lease in leases}) == 1
    assert rig.fake.attempts == 1
    leases += rig.take(1)
    assert rig.fake.attempts == 2
    assert leases[3].protocol is not leases[0].protocol
    leases += rig.take(2)
    waiting = rig.ask()
    assert rig.fake.attempts == 2
    assert rig.numbers() == (0, 6, 0, 0, 1)
    leases.pop(1).release()
    leases.append(result_of(waiting))
    for lease in leases:
        lease.release()
    rig.end()


def test_the_numbers_count_slots_and_add_up_to_the_limit() -> None:
    rig = Sharing()
    assert rig.numbers() == (0, 0, 0, 6, 0)
    rig.fake.accept(after=1)
    asked = rig.ask()
    assert rig.numbers() == (0, 0, 3, 3, 1)
    rig.clock.advance(1)
    lease = result_of(asked)
    assert rig.numbers() == (2, 1, 0, 3, 0)
    others = rig.take(3)
    assert rig.numbers() == (2, 4, 0, 0, 0)
    lease.finished()
    assert rig.numbers() == (2, 3, 0, 0, 0)
    for each in others:
        each.release()
    rig.turn()
    assert rig.numbers() == (3, 0, 0, 3, 0)
    rig.end()


def test_a_new_lease_goes_to_a_connection_that_is_in_use_already() -> None:
    rig = Sharing()
    leases = rig.take(4)
    leases.pop().release()
    leases.pop().release()
    assert rig.lease().protocol is leases[0].protocol
    gc.collect()


def test_a_hundred_waiters_share_what_their_number_needs() -> None:
    rig = Sharing(limit=10, slots=25)
    rig.fake.accept(after=1, always=True)
    asked = [rig.ask() for _ in range(60)]
    rig.clock.advance(1)
    rig.clock.advance(1)
    assert rig.fake.attempts == 3
    for each in asked:
        result_of(each).release()
    assert rig.numbers() == (75, 0, 0, 175, 0)


def test_try_connect_gives_a_slot_at_once_or_nothing() -> None:
    rig = Sharing(limit=1)
    assert rig.manager.try_connect("us") is None
    assert rig.fake.attempts == 0
    leases = rig.take(1)
    for _ in range(2):
        lease = rig.manager.try_connect("us")
        assert lease is not None
        leases.append(lease)
    assert rig.manager.try_connect("us") is None
    with pytest.raises(WrongIdent):
        rig.manager.try_connect("them")
    waiting = rig.ask()
    leases.pop().release()
    assert rig.manager.try_connect("us") is None
    assert result_of(waiting).protocol is leases[0].protocol


# Settling


def test_after_one_lessee_has_finished_nobody_new_comes_and_the_others_go_on() -> None:
    rig = Sharing(observed=True)
    first, second, third = rig.take(3)
    first.finished()
    rig.turn()
    second.protocol.transport.write(b"still here")
    assert rig.fake.accepted[0].received == b"still here"
    rig.fake.accepted[0].speak(b"indeed")
    assert third.protocol.heard == b"indeed"
    other = rig.lease()
    assert other.protocol is not second.protocol
    second.release()
    rig.turn()
    assert rig.fake.accepted[0].open
    third.release()
    rig.turn()
    assert not rig.fake.accepted[0].open
    assert [each.why for each in rig.events if isinstance(each, Retired)] == [Why.FINISHED]
    assert rig.manager.counters.releases == 2
    other.release()
    rig.end()


def test_a_finished_connection_keeps_its_slot_of_the_limit_until_it_is_gone() -> None:
    rig = Sharing(limit=1)
    first, second = rig.take(2)
    first.finished()
    waiting = rig.ask()
    with pytest.raises(NotFired):
        result_of(waiting)
    assert rig.fake.attempts == 1
    second.release()
    rig.turn()
    result_of(waiting).release()
    assert rig.fake.attempts == 2


def test_a_forgotten_slot_costs_the_connection_when_the_others_are_done() -> None:
    rig = Sharing()
    kept = rig.lease()
    rig.lease()
    gc.collect()
    rig.turn()
    assert rig.manager.counters.forgotten == 1
    assert rig.fake.accepted[0].open
    kept.protocol.transport.write(b"on")
    assert rig.lease().protocol is not kept.protocol
    kept.release()
    gc.collect()
    rig.turn()
    assert not rig.fake.connections
    rig.end()


def test_a_block_that_raises_finishes_the_connection() -> None:
    rig = Sharing()
    kept = rig.lease()

    async def fail() -> None:
        async with await rig.ask():
            raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        result_of(Deferred.fromCoroutine(fail()))
    assert rig.manager.counters.finishes == 1
    assert rig.lease().protocol is not kept.protocol


def test_a_slot_is_settled_once() -> None:
    rig = Sharing()
    lease, other = rig.take(2)
    lease.release()
    for again in (lease.release, lease.finished, lambda: lease.protocol):
        with pytest.raises(LeaseError):
            again()
    assert rig.numbers() == (2, 1, 0, 3, 0)
    other.release()


# Losses


def test_a_loss_is_heard_by_every_lease_and_by_the_protocol_once() -> None:
    rig = Sharing()
    leases = rig.take(3)
    told = [lease.when_lost() for lease in leases]
    protocol = leases[0].protocol
    rig.fake.accepted[0].reset()
    assert [type(result_of(each)) for each in told] == [ConnectionLost] * 3
    assert len(protocol.losses) == 1
    assert rig.numbers() == (0, 0, 0, 6, 0)
    for lease in leases:
        lease.release()
    assert rig.numbers() == (0, 0, 0, 6, 0)
    assert rig.manager.counters.finishes == 3
    rig.end()


def test_settling_in_connection_lost_loses_no_slot() -> None:
    rig = Sharing(limit=1)
    leases = rig.take(3)
    protocol = leases[0].protocol
    told = leases[2].when_lost()

    def lost(reason: Any) -> None:
        leases[0].release()
        leases[1].finished()

    protocol.connectionLost = lost
    waiting = [rig.ask() for _ in range(2)]
    rig.fake.accepted[0].reset()
    assert isinstance(result_of(told), ConnectionLost)
    rig.turn()
    for each in waiting:
        result_of(each).release()
    leases[2].release()
    assert rig.numbers() == (3, 0, 0, 0, 0)
    rig.end()


def test_a_protocol_that_closes_itself_takes_no_new_leases() -> None:
    rig = Sharing()
    first, second = rig.take(2)
    first.protocol.transport.loseConnection()
    assert rig.manager.try_connect("us") is None
    other = rig.lease()
    assert other.protocol is not second.protocol
    lost = second.when_lost()
    rig.turn()
    result_of(lost)
    for lease in (first, second, other):
        lease.release()
    assert rig.numbers() == (3, 0, 0, 3, 0)
    rig.end()


def test_one_lessee_that_sends_with_a_producer_ends_nobody_elses_connection() -> None:
    rig = Sharing(limit=1)
    streaming, other = rig.take(2)
    protocol = streaming.protocol
    protocol.transport.registerProducer(_Producer(), True)
    other.release()
    again = rig.lease()
    assert again.protocol is protocol
    again.release()
    protocol.transport.unregisterProducer()
    streaming.release()
    assert rig.numbers() == (3, 0, 0, 0, 0)
    assert rig.fake.attempts == 1


def test_a_producer_left_by_the_last_lessee_costs_the_connection() -> None:
    rig = Sharing(limit=1)
    (lease,) = rig.take(1)
    lease.protocol.transport.registerProducer(_Producer(), True)
    lease.release()
    rig.turn()
    assert not rig.fake.connections
    assert rig.manager.counters.finishes == 1


class _Producer:
    def resumeProducing(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


# The queue


def note(lease: Lease[Any], number: int, served: list[int]) -> None:
    served.append(number)
    lease.release()


def test_waiters_for_slots_are_first_come_first_served() -> None:
    rig = Sharing(limit=1)
    leases = rig.take(3)
    served: list[int] = []
    for number in range(6):
        rig.ask().addCallback(note, number, served)
    leases.pop().release()
    assert served == list(range(6))
    for lease in leases:
        lease.release()
    rig.end()


def test_ten_thousand_waiters_that_each_release_in_their_callback_need_no_recursion() -> None:
    rig = Sharing(limit=1, slots=2, max_waiters=20_000)
    leases = rig.take(2)
    served: list[int] = []
    for number in range(10_000):
        rig.ask().addCallback(note, number, served)
    for lease in leases:
        lease.release()
    assert served == list(range(10_000))


def test_a_cancelled_waiter_is_skipped() -> None:
    rig = Sharing(limit=1)
    leases = rig.take(3)
    gone, next_one = rig.ask(), rig.ask()
    gone.cancel()
    with pytest.raises(CancelledError):
        result_of(gone)
    leases.pop().release()
    result_of(next_one).release()
    assert rig.numbers() == (1, 2, 0, 0, 0)


def test_a_waiter_cancelled_by_an_observer_of_its_lease_loses_no_slot() -> None:
    rig = Sharing(limit=1, observed=True)
    leases = rig.take(3)
    asked = rig.ask()

    def observe(event: Event) -> None:
        if isinstance(event, Leased):
            asked.cancel()

    rig.manager.observers.append(observe)
    leases.pop().release()
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.numbers() == (1, 2, 0, 0, 0)


def test_a_request_for_a_slot_fails_at_its_deadline_with_the_numbers() -> None:
    rig = Sharing(limit=1)
    leases = rig.take(3)
    asked = rig.ask(timeout=2)
    rig.clock.advance(2)
    with pytest.raises(LeaseTimeout) as caught:
        result_of(asked)
    assert (caught.value.status.leased, caught.value.status.limit) == (3, 3)
    del leases


def test_beyond_the_bound_of_the_queue_requests_are_refused() -> None:
    rig = Sharing(limit=2, max_waiters=1)
    rig.fake.accept(after=1, always=True)
    asked = [rig.ask() for _ in range(7)]
    with pytest.raises(PoolFull):
        result_of(rig.ask())
    rig.clock.advance(1)
    leases = [result_of(each) for each in asked[:6]]
    with pytest.raises(NotFired):
        result_of(asked[6])
    leases.pop().release()
    result_of(asked[6])


def test_a_lease_reports_its_connection_and_whether_it_was_used_before() -> None:
    rig = Sharing()
    first, second = rig.take(2)
    rig.clock.advance(2)
    assert (first.reused, second.reused) == (False, True)
    assert (first.age, second.age) == (2, 2)
    assert first.manager is rig.manager


def test_a_pool_whose_policy_has_slots_shares_connections() -> None:
    rig = Sharing()
    pool = Pool(rig.clock, Hears, policy=Policy(limit=1, slots=2))
    backend = rig.manager.backend
    first, second = (result_of(pool.connect("us", backend)) for _ in range(2))
    assert first.protocol is second.protocol
    assert pool.status([backend])[0].limit == 2
    first.release()
    pool.finished(second)
