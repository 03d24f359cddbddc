"""Defects that other pools had in production; each test names the other pool's issue."""

from __future__ import annotations

import gc
import random
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol

from kolus import ConnectFailed, Lease, LeaseTimeout
from kolus.backoff import Backoff
from kolus.events import Connected, Retired, Why
from kolus.testing import NotFired, result_of
from tests.rigs.either import either


def cancel(asked: Deferred[Any]) -> None:
    asked.addErrback(lambda failure: failure.trap(CancelledError))
    asked.cancel()


def assert_whole(rig: Any) -> None:
    """Every slot of the limit can be leased, and comes home."""
    rig.fake.accept(always=True)
    leases = [rig.lease() for _ in range(rig.manager.status().limit)]
    assert rig.manager.status().unused == 0
    for lease in leases:
        lease.release()
    assert rig.manager.status().idle == len(leases)


@either
def test_httpcore_1093_requests_cancelled_under_contention_cost_no_slot(rig_of: Any) -> None:
    """A request cancelled after the pool had assigned it a connection, and before that was made,
    left it behind for ever as connecting: the pool filled up with them and timed out."""
    rig = rig_of(limit=2)
    rig.fake.accept(after=1, always=True)
    for after in (0.0, 0.5, 1.0):
        asked = [rig.ask() for _ in range(20)]
        rig.clock.advance(after)
        for each in asked:
            cancel(each.addCallback(Lease.release))
        rig.clock.advance(2)
    assert rig.numbers() == (2, 0, 0, 0, 0)
    assert_whole(rig)


@either
@pytest.mark.parametrize("patience", [0.9, 1.0, 1.1])
def test_asyncpg_467_a_time_out_about_when_the_connection_comes_leaks_none(
    rig_of: Any, patience: float
) -> None:
    """An acquire that timed out as its connection was just made left that to nobody."""
    rig = rig_of(limit=1)
    rig.fake.accept(after=1)
    asked = rig.ask(patience)
    asked.addCallback(Lease.release).addErrback(lambda failure: failure.trap(LeaseTimeout))
    rig.clock.advance(patience)
    rig.clock.advance(1)
    assert rig.numbers() == (1, 0, 0, 0, 0)
    assert_whole(rig)


@either
def test_bb8_59_who_gives_up_while_the_connection_is_checked_leaks_none(rig_of: Any) -> None:
    """A C{get} that was no longer polled, for a time-out around it, dropped the connection that
    it had taken out of the pool to check it."""
    answers: list[Deferred[None]] = []

    def check(protocol: object) -> Deferred[None]:
        answers.append(Deferred())
        return answers[-1]

    rig = rig_of(limit=1, check=check, check_after=1, check_timeout=None)
    rig.lease().release()
    rig.clock.advance(1)
    asked = rig.ask()
    cancel(asked)
    answers[0].callback(None)
    assert rig.numbers() == (1, 0, 0, 0, 0)


@either
@pytest.mark.parametrize("release_first", [True, False])
def test_aiohttp_9670_a_waiter_gone_as_it_is_woken_up_does_not_swallow_the_slot(
    rig_of: Any, release_first: bool
) -> None:
    """A waiter that timed out in the very turn in which it was woken up woke up nobody else: the
    others waited for ever beside a free slot."""
    rig = rig_of(limit=1)
    held = rig.lease()
    if release_first:
        rig.clock.callLater(1, held.release)
    first, second = rig.ask(1), rig.ask(2)
    if not release_first:
        rig.clock.callLater(1, held.release)
    first.addCallback(Lease.release).addErrback(lambda failure: failure.trap(LeaseTimeout))
    rig.clock.advance(1)
    result_of(second).release()
    assert rig.numbers() == (1, 0, 0, 0, 0)


@either
def test_asyncpg_1247_workers_that_ask_again_at_once_starve_nobody(rig_of: Any) -> None:
    """A hundred workers that each released and acquired in a loop took turns so unevenly that
    one of them timed out after 10 s, where two would have been enough."""
    rig = rig_of(limit=10)
    served = [0] * 100
    longest = 0.0

    def work(worker: int) -> None:
        asked_at = rig.clock.seconds()

        def hold(lease: Lease[Any]) -> None:
            nonlocal longest
            longest = max(longest, rig.clock.seconds() - asked_at)
            served[worker] += 1
            rig.clock.callLater(0.25, again, lease)

        def again(lease: Lease[Any]) -> None:
            lease.release()
            if rig.clock.seconds() < 60:
                work(worker)

        rig.ask(10).addCallback(hold)

    for worker in range(100):
        work(worker)
    while rig.clock.getDelayedCalls() and rig.clock.seconds() < 65:
        rig.clock.advance(0.25)
    assert max(served) - min(served) <= 1
    assert longest == 2.25  # nine others on the same connection


@either
def test_pgx_1287_a_connect_outlives_its_caller_and_the_caller_keeps_its_deadline(
    rig_of: Any,
) -> None:
    """A connect that ended with its caller's context could never reach a backend slower than
    its callers; the cure for that ignored the context, and calls hung beyond their deadline."""
    rig = rig_of(limit=1)
    rig.fake.accept(after=3, always=True)
    for _ in range(2):
        asked = rig.ask(1)
        rig.clock.advance(1)
        with pytest.raises(LeaseTimeout):
            result_of(asked)
    rig.clock.advance(1)
    assert rig.lease().held
    assert rig.fake.attempts == 1


class Asks(Protocol):
    """Sends a question at a time, and takes what comes for its answer."""

    def ask(self, question: bytes) -> Deferred[bytes]:
        self.answer: Deferred[bytes] = Deferred()
        self.transport.write(question)  # type: ignore[union-attr]
        return self.answer

    def dataReceived(self, data: bytes) -> None:
        if not self.answer.called:
            self.answer.callback(data)


def echoing(rig: Any) -> Any:
    rig.fake._respond = lambda data: b"re: " + data
    return rig


@either
def test_redis_py_2624_the_reply_to_a_cancelled_command_is_not_read_by_the_next(
    rig_of: Any,
) -> None:
    """A command cancelled between request and reply gave its connection back with the reply
    still to come: from then on everybody got the answer to the question before his."""
    rig = echoing(rig_of(Asks, limit=1))

    async def ask(question: bytes) -> bytes:
        async with await rig.ask() as lease:
            answer: bytes = await lease.protocol.ask(question)
            return answer

    first = Deferred.fromCoroutine(ask(b"foo"))
    cancel(first)
    second = Deferred.fromCoroutine(ask(b"bar"))
    rig.turn()
    assert result_of(second) == b"re: bar"
    assert len(rig.fake.accepted) == 2


@either
def test_redis_py_2624_a_connection_released_with_its_reply_to_come_is_closed(rig_of: Any) -> None:
    """The same, where the caller itself has given the connection back too early."""
    rig = echoing(rig_of(Asks, limit=1))
    lease = rig.lease()
    lease.protocol.ask(b"foo")
    lease.release()
    rig.turn()
    assert not rig.fake.connections
    assert_whole(rig)


@either
def test_haproxy_2078_no_count_drifts_whatever_happens(rig_of: Any) -> None:
    """A count kept beside the connections was decremented once too often on some path: it became
    negative, and servers reached their C{maxconn} with nothing on them."""
    rng = random.Random(2078)
    rig = rig_of(limit=3, backoff=Backoff(first=0.1, most=0.1))
    held: list[Lease[Any]] = []
    asked: list[Deferred[Any]] = []
    steps: list[Any] = [
        lambda: asked.append(rig.ask(rng.choice([0.1, 1.0])).addCallbacks(held.append, str)),
        lambda: held and held.pop(rng.randrange(len(held))).release(),
        lambda: held and held.pop(rng.randrange(len(held))).finished(),
        lambda: held and held.pop(rng.randrange(len(held))),
        lambda: asked and asked.pop(rng.randrange(len(asked))).cancel(),
        lambda: rig.fake.connections and rng.choice(rig.fake.connections).reset(),
        lambda: rig.fake.connections and rng.choice(rig.fake.connections).close(),
        lambda: rig.fake.refuse(after=rng.choice([0, 0.05])),
        lambda: rig.fake.accept(after=rng.choice([0, 0.05])),
        rig.manager.invalidate,
        lambda: rig.clock.advance(rng.choice([0, 0.05, 0.2])),
    ]
    for _ in range(3_000):
        rng.choice(steps)()
        idle, leased, connecting, unused, waiting = rig.numbers()
        closing = len(rig.manager.connections.closing)
        assert min(idle, leased, connecting, unused, waiting) >= 0
        assert idle + leased + connecting + unused + closing == 3
        assert len(rig.fake.connections) <= 3
    while held:
        held.pop().release()
    rig.fake._script.clear()
    rig.clock.pump([1] * 10)
    assert_whole(rig)


@either
def test_asyncpg_290_closing_does_not_wait_for_ever_for_a_lease(rig_of: Any) -> None:
    """C{Pool.close} waited without a bound for connections that were never given back."""
    rig = rig_of()
    held = rig.lease()
    closed = rig.manager.close(10)
    rig.clock.advance(9.9)
    with pytest.raises(NotFired):
        result_of(closed)
    rig.clock.advance(0.1)
    rig.turn()
    assert result_of(closed) is None
    held.release()


@either
def test_twisted_7738_closing_does_not_wait_for_ever_for_a_peer(rig_of: Any) -> None:
    """C{closeCachedConnections} fired only when every peer had closed its half too, so never if
    one was unplugged: its C{FIN} went unanswered."""
    rig = rig_of(close_timeout=5)
    lease = rig.lease()
    transport = lease.protocol.transport
    transport.loseConnection = lambda: None
    lease.release()
    closed = rig.manager.close(60)
    rig.clock.advance(4.9)
    assert transport.connected
    rig.clock.advance(0.1)
    rig.turn()
    assert result_of(closed) is None


class WrongPassword(Exception):
    pass


def refuse_login(protocol: object) -> None:
    raise WrongPassword("for the user nobody")


@either
def test_bb8_141_a_wrong_password_is_told_at_once_and_not_as_a_time_out(rig_of: Any) -> None:
    """With a wrong password each C{get} came back after 30 s as "timed out", and said no more."""
    rig = rig_of(prepare=refuse_login)
    with pytest.raises(ConnectFailed, match="WrongPassword: for the user nobody") as caught:
        rig.lease()
    assert isinstance(caught.value.reason, WrongPassword)


@either
def test_bb8_141_a_time_out_tells_what_prevented_the_connect(rig_of: Any) -> None:
    """The same, for callers that sit through the back-off."""
    rig = rig_of(fail_fast=False)
    rig.fake.refuse(always=True)
    asked = rig.ask(3)
    rig.clock.pump([0.5] * 6)
    with pytest.raises(LeaseTimeout, match="the fake backend refuses") as caught:
        result_of(asked)
    assert isinstance(caught.value.last_error, ConnectionRefusedError)


@pytest.mark.long
@either
def test_hikaricp_2099_connections_made_at_once_are_not_recycled_at_once(rig_of: Any) -> None:
    """A pool that was filled at once was also emptied at about once, and connected all anew."""
    rig = rig_of(limit=10, lifetime=600, idle_timeout=None, observed=True)
    recycled: list[float] = []
    made: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, Retired):
            assert event.why is Why.LIFETIME
            recycled.append(rig.clock.seconds())
        elif isinstance(event, Connected):
            made.append(rig.clock.seconds())

    rig.manager.observers.append(note)
    for _ in range(2 * 3600):
        for lease in [rig.lease() for _ in range(10)]:
            lease.release()
        rig.clock.advance(1)
    gaps = [after - before for before, after in pairwise(recycled)]
    assert len(recycled) > 100
    assert min(gaps) >= 59  # 60, less one for the steps of this clock
    assert len([each for each in made if each > 0]) <= len(recycled)


@either
def test_txconnpool_a_command_that_fails_costs_no_slot(rig_of: Any) -> None:
    """It freed a client with C{addCallback}: one whose command had failed stayed busy for ever."""
    rig = rig_of(limit=1)

    async def fail() -> None:
        async with await rig.ask():
            raise ValueError("no such command")

    for _ in range(3):
        with pytest.raises(ValueError, match="no such command"):
            result_of(Deferred.fromCoroutine(fail()))
        rig.turn()
    assert_whole(rig)


@either
def test_the_original_kolus_a_caller_that_dies_does_not_keep_its_slot(rig_of: Any) -> None:
    """It did not monitor the processes that it had lent sockets to: the slot of one that died was
    never free again."""
    rig = rig_of(limit=1)
    lease = rig.lease()
    waiting = rig.ask()
    del lease
    gc.collect()
    rig.turn()
    result_of(waiting).release()
    assert rig.manager.counters.forgotten == 1
    assert_whole(rig)


@either
def test_the_original_kolus_a_caller_that_ends_before_it_is_served_takes_no_slot(
    rig_of: Any,
) -> None:
    """It also served callers that had died in the meantime."""
    rig = rig_of(limit=1)
    held = rig.lease()
    caller: Deferred[None] = Deferred()
    asked = rig.manager.connect("us", None, caller)
    caller.callback(None)
    held.release()
    with pytest.raises(CancelledError):
        result_of(asked)
    assert_whole(rig)
