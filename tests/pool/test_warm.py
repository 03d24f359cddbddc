"""C{pool.warm} and C{group.warm}: connections that are ready before anybody asks for a lease."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus import (
    Backend,
    Closed,
    ConnectFailed,
    Draining,
    ISource,
    LeaseTimeout,
    NoBackend,
    Policy,
    Pool,
    WrongIdent,
)
from kolus.manager.connections.warming import Warming
from kolus.testing import FakeBackend, NotFired, result_of
from tests.group.test_group_fresh import Others


class Warmed:
    """A pool on a clock with three fake backends, to which a connect takes a second."""

    def __init__(self, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock).accept(after=1.0, always=True) for _ in range(3)]
        self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, "abc", strict=True)
        ]
        settings = {"limit": 4, "acquire_timeout": 5.0} | policy
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(**settings))

    @property
    def fake(self) -> FakeBackend:
        return self.fakes[0]

    def warm(self, count: int = 3, timeout: float | None = None, **how: Any) -> Deferred[None]:
        return self.pool.warm(self.backends[0], count, timeout, **({"ident": "us"} | how))

    def connect(self, which: int = 0, ident: str = "us") -> Deferred[Any]:
        return self.pool.connect(ident, self.backends[which])

    def idle(self) -> list[int | None]:
        return [each.idle for each in self.pool.status(self.backends)]

    def end(self) -> None:
        closed = self.pool.close(0)
        self.clock.pump([0, 60])
        result_of(closed)
        assert not self.clock.getDelayedCalls()


def pending(asked: Deferred[Any]) -> bool:
    return not asked.called


@pytest.mark.parametrize("slots", [None, 4])
def test_warm_fires_when_so_many_connections_are_ready(slots: int | None) -> None:
    rig = Warmed(slots=slots)
    asked = rig.warm(3)
    rig.clock.advance(0.9)
    assert pending(asked)
    rig.clock.advance(0.1)
    assert result_of(asked) is None
    assert rig.fake.attempts == 3
    assert rig.idle()[0] == 3 * (slots or 1)
    rig.end()


def test_warm_fires_at_once_if_they_are_ready() -> None:
    rig = Warmed()
    rig.warm(3)
    rig.clock.advance(1.0)
    assert result_of(rig.warm(2)) is None
    assert result_of(rig.warm(3)) is None
    assert rig.fake.attempts == 3
    rig.end()


def test_what_is_ready_is_there_when_it_fires_though_its_ident_is_one_too_many() -> None:
    rig = Warmed(max_idents=1)
    ours = [rig.connect(), rig.connect()]
    theirs = [rig.connect(ident="them"), rig.connect(ident="them")]
    rig.clock.advance(1.0)
    for each in ours:
        result_of(each).release()
    result_of(theirs[0]).finished()
    waiting = rig.connect(ident="them")  # until the connection has closed
    ready: list[int | None] = []
    result_of(rig.warm(2).addCallback(lambda _: ready.append(rig.idle()[0])))
    assert ready == [2]
    waiting.addErrback(lambda failure: failure.trap(Closed))
    result_of(theirs[1]).release()
    rig.end()


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("setting", ["idle_timeout", "lifetime"])
def test_what_is_overdue_does_not_count_as_ready(setting: str, slots: int | None) -> None:
    rig = Warmed(slots=slots, **({"idle_timeout": None, "lifetime": None} | {setting: 10.0}))
    asked = rig.connect()
    rig.clock.advance(1)
    result_of(asked).release()
    rig.clock.rightNow += 11  # its timer does not run
    warmed = rig.warm(1)
    rig.clock.pump([0, 1])
    result_of(warmed)
    assert rig.fake.attempts == 2
    assert len(rig.fake.connections) == 1


def test_leased_connections_count_as_ready() -> None:
    rig = Warmed()
    first = rig.connect()
    rig.clock.advance(1.0)
    lease = result_of(first)
    asked = rig.warm(2)
    assert rig.fake.attempts == 2
    rig.clock.advance(1.0)
    result_of(asked)
    lease.release()
    rig.end()


def test_requests_are_served_meanwhile_and_what_they_use_counts() -> None:
    rig = Warmed()
    asked = rig.warm(3)
    wanted = rig.connect()
    rig.clock.advance(1.0)
    lease = result_of(wanted)
    result_of(asked)
    assert rig.fake.attempts == 3
    lease.release()
    rig.end()


def test_a_connection_that_is_lost_meanwhile_is_replaced() -> None:
    rig = Warmed(limit=2)
    rig.warm(1)
    rig.clock.advance(1.0)
    asked = rig.warm(2)
    rig.fake.connections[0].reset()
    rig.clock.pump([1.0, 1.0])
    result_of(asked)
    assert rig.idle()[0] == 2
    rig.end()


def test_several_calls_wait_for_the_most_of_them() -> None:
    rig = Warmed()
    one, three = rig.warm(1), rig.warm(3)
    rig.clock.advance(1.0)
    result_of(one)
    result_of(three)
    assert rig.fake.attempts == 3
    rig.end()


def test_the_idents_of_a_backend_are_warmed_apart() -> None:
    rig = Warmed(idents="separate")
    asked = [rig.warm(2), rig.warm(2, ident="them")]
    rig.clock.advance(1.0)
    for each in asked:
        result_of(each)
    assert rig.fake.attempts == 4
    rig.end()


def take_all(rig: Warmed) -> list[Any]:
    """Lease all that the limit allows for another ident."""
    asked = [rig.connect(ident="them") for _ in range(rig.pool.policy.limit)]
    rig.clock.advance(1.0)
    return [result_of(each) for each in asked]


@pytest.mark.parametrize("idle", [1, 2])
@pytest.mark.parametrize("min_idle", [0, 2])
def test_what_is_idle_for_another_ident_makes_way(min_idle: int, idle: int) -> None:
    rig = Warmed(limit=2, min_idle=min_idle)
    leases = take_all(rig)
    for _ in range(idle):
        leases.pop().release()
    asked = rig.warm(idle)
    rig.clock.pump([0, 1.0, 1.0, 1.0])
    result_of(asked)
    assert len(rig.fake.connections) == 2
    for each in leases:
        each.release()
    rig.end()


@pytest.mark.parametrize("how", ["ready", "cancelled", "late"])
def test_what_it_has_made_makes_way_when_it_is_over(how: str) -> None:
    rig = Warmed(limit=2)
    lease = take_all(rig)
    lease.pop().finished()
    warm = rig.warm(1 if how == "ready" else 2, 3.0)
    warm.addErrback(lambda _: None)
    rig.clock.advance(0)
    asked = rig.connect(ident="other")
    rig.clock.advance(1.0)
    if how == "cancelled":
        warm.cancel()
    rig.clock.pump([2.0, 1.0])
    result_of(asked).release()
    lease.pop().release()
    rig.end()


@pytest.mark.parametrize("pool_limit", [None, 2])
def test_a_request_comes_before_it(pool_limit: int | None) -> None:
    rig = Warmed(limit=4 if pool_limit else 2)
    rig.pool.resize_pool(pool_limit)
    first = rig.connect(1 if pool_limit else 0, "them")
    rig.clock.advance(1.0)
    lease = result_of(first)
    warm = rig.warm(2, 60.0)
    rig.clock.advance(1.0)
    assert pending(warm)
    asked = rig.connect(1 if pool_limit else 0, "them")
    rig.clock.pump([0, 1.0])
    result_of(asked).release()
    lease.release()
    rig.clock.pump([0, 1.0, 1.0])
    result_of(warm)
    rig.end()


def test_two_calls_do_not_displace_each_other_for_ever() -> None:
    rig = Warmed(limit=2)
    both = [rig.warm(2, 10.0, ident=each) for each in ("us", "them")]
    for each in both:
        each.addErrback(lambda _: None)
    rig.clock.pump([0.5] * 10)
    assert rig.fake.attempts <= 4
    rig.end()


def test_what_comes_home_for_another_ident_makes_way() -> None:
    rig = Warmed(limit=2)
    first, second = take_all(rig)
    asked = rig.warm(1)
    rig.clock.advance(1.0)
    assert pending(asked)
    first.release()
    rig.clock.pump([0, 1.0])
    result_of(asked)
    second.release()
    rig.end()


@pytest.mark.parametrize("by_warm", [True, False])
def test_warm_tells_that_other_idents_have_all_connections(by_warm: bool) -> None:
    rig = Warmed(limit=2)
    leases = take_all(rig)
    asked = rig.warm(1) if by_warm else rig.connect()
    rig.clock.advance(5.0)
    with pytest.raises(LeaseTimeout, match="2 of its connections are not for this ident") as caught:
        result_of(asked)
    assert caught.value.of_others == 2
    for each in leases:
        each.release()
    rig.end()


@pytest.mark.parametrize("how", ["idle", "comes home"])
def test_what_is_idle_elsewhere_makes_way_where_the_pools_limit_binds(how: str) -> None:
    rig = Warmed()
    rig.pool.resize_pool(1)
    asked = rig.connect(1)
    rig.clock.advance(1.0)
    lease = result_of(asked)
    if how == "idle":
        lease.release()
    warm = rig.warm(1)
    if lease.held:
        rig.clock.advance(1.0)
        assert pending(warm)
        lease.release()
    rig.clock.pump([0, 1.0])
    result_of(warm)
    rig.end()


def test_the_default_is_one_connection_for_the_ident_none() -> None:
    rig = Warmed()
    asked = rig.pool.warm(rig.backends[0])
    rig.clock.advance(1.0)
    result_of(asked)
    manager = next(iter(rig.pool.status())).manager
    assert manager is not None
    assert manager.ident is None
    rig.end()


# What prevents it


def test_a_failed_connect_fails_it_with_its_error() -> None:
    rig = Warmed()
    rig.fake.refuse(reason=OSError("no route"), always=True)
    with pytest.raises(ConnectFailed, match="no route"):
        result_of(rig.warm(2))
    with pytest.raises(ConnectFailed, match="no route"):  # while the next attempt is not due
        result_of(rig.warm(2))
    rig.end()


def test_a_failed_connect_does_not_fail_it_while_others_are_under_way() -> None:
    rig = Warmed(limit=2)
    rig.fake.refuse()
    rig.fake.accept(after=1.0)
    asked = rig.warm(1)
    with pytest.raises(ConnectFailed):
        result_of(asked)
    rig.clock.advance(5)
    asked = rig.warm(2)
    rig.clock.advance(1.0)
    rig.clock.advance(1.0)
    result_of(asked)
    rig.end()


def test_without_fail_fast_it_waits_for_a_backend_that_comes_back() -> None:
    rig = Warmed(fail_fast=False)
    rig.fake.refuse()
    rig.fake.refuse()
    asked = rig.warm(2, 20.0)
    rig.clock.pump([0.25] * 40)
    result_of(asked)
    rig.end()


def test_without_back_off_a_failed_connect_fails_it_and_the_next_call_tries_again() -> None:
    rig = Warmed(backoff=None)
    rig.fake.refuse(after=0.5)
    one, two = rig.warm(1), rig.warm(1)
    rig.clock.advance(0.5)
    for each in (one, two):
        with pytest.raises(ConnectFailed):
            result_of(each)
    rig.fake.refuse()
    with pytest.raises(ConnectFailed):
        result_of(rig.warm(1))
    assert rig.fake.attempts == 2
    asked = rig.warm(1)
    rig.clock.advance(1.0)
    result_of(asked)
    rig.end()


def test_more_than_the_limit_fails_with_a_value_error() -> None:
    rig = Warmed()
    with pytest.raises(ValueError, match=r"5 connections to a are more than its limit of 4"):
        result_of(rig.warm(5))
    asked = rig.warm(3)
    rig.pool.resize(2)
    with pytest.raises(ValueError, match="its limit of 2"):
        result_of(asked)
    rig.end()


def test_more_than_the_limit_of_the_pool_fails_with_a_value_error() -> None:
    rig = Warmed()
    rig.pool = Pool(rig.clock, Protocol, policy=Policy(limit=4), limit=5)
    with pytest.raises(ValueError, match=r"2 connections to each of 3 backends .* limit of 5"):
        result_of(rig.pool.warm(rig.backends, 2, ident="us"))
    asked = rig.warm(4)
    rig.clock.advance(1.0)
    result_of(asked)
    rig.end()


def test_more_than_are_kept_idle_fails_with_a_value_error() -> None:
    rig = Warmed(max_idle=1)
    with pytest.raises(ValueError, match="max_idle=1"):
        result_of(rig.warm(2))
    rig.end()


@pytest.mark.parametrize("timeout", [None, 2.0])
def test_at_the_deadline_it_says_what_is_there(timeout: float | None) -> None:
    rig = Warmed(connect_timeout=30.0)
    rig.fake.accept(after=1.0)
    rig.fake.never_answer(always=True)
    asked = rig.warm(2, timeout)
    rig.clock.advance(1.0)
    rig.clock.advance(0.9)
    assert pending(asked)
    rig.clock.advance(3.1)
    with pytest.raises(LeaseTimeout) as caught:
        result_of(asked)
    assert caught.value.__notes__ == ["1 of 2 connections were ready"]
    assert caught.value.status.idle == 1
    assert rig.pool.counters().timeouts == 0  # no request has timed out
    rig.end()


def test_while_paused_it_waits() -> None:
    rig = Warmed()
    rig.pool.pause()
    asked = rig.warm(1)
    rig.clock.advance(3.0)
    assert rig.fake.attempts == 0
    rig.pool.resume()
    rig.clock.advance(0.5)
    rig.clock.advance(0.5)
    result_of(asked)
    rig.end()


@pytest.mark.parametrize(("how", "error"), [("drain", Draining), ("close", Closed)])
def test_draining_and_closing_end_it(how: str, error: type[Exception]) -> None:
    rig = Warmed()
    held = rig.connect()
    rig.clock.advance(1.0)
    lease = result_of(held)
    asked = rig.warm(2)
    getattr(rig.pool, how)(*([rig.backends[0]] if how == "drain" else []))
    with pytest.raises(error):
        result_of(asked)
    with pytest.raises(error):
        result_of(rig.warm(2))
    lease.release()
    rig.end()


def test_another_ident_is_refused() -> None:
    rig = Warmed(idents="reject")
    asked = rig.warm(1)
    with pytest.raises(WrongIdent):
        result_of(rig.warm(1, ident="them"))
    rig.clock.advance(1.0)
    result_of(asked)
    rig.end()


def test_cancelling_ends_the_wait_and_the_connects_go_on() -> None:
    rig = Warmed()
    asked = rig.warm(2)
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    rig.clock.advance(1.0)
    assert rig.idle()[0] == 2
    rig.end()


def test_a_manager_that_closes_itself_soon_waits_for_it() -> None:
    rig = Warmed(manager_idle_timeout=0.0)
    rig.fake.never_answer(always=True)
    rig.pool.pause()
    asked = rig.warm(1, 3.0)
    rig.clock.pump([0.5] * 6)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    rig.end()


def test_what_warm_has_told_may_do_anything() -> None:
    rig = Warmed()
    closed: list[Any] = []
    rig.warm(1).addCallback(lambda _: closed.append(rig.pool.close()))
    other = rig.warm(1)
    rig.clock.advance(1.0)
    with pytest.raises(Closed):
        result_of(other)
    rig.clock.advance(0)
    result_of(closed[0])


def test_a_third_party_s_manager_is_told_so_clearly() -> None:
    rig = Others()
    with pytest.raises(TypeError, match="IServesGroups"):
        result_of(rig.pool.warm(rig.backends[0], ident="us"))


def test_bad_arguments_are_refused_at_once() -> None:
    rig = Warmed()
    for how in ({"count": 0}, {"count": 1.5}, {"timeout": -1}):
        with pytest.raises(ValueError, match=next(iter(how))):
            rig.pool.warm(rig.backends[0], **how)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=next(iter(how))):
            rig.pool.group(rig.backends).warm(**how)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no backend"):
        rig.pool.warm([])
    with pytest.raises(TypeError):
        rig.pool.warm(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="port"):
        rig.pool.warm(("host", 0))


# Several backends


@pytest.mark.parametrize("is_group", [False, True])
def test_of_several_each_is_warmed(is_group: bool) -> None:
    rig = Warmed()
    where = rig.pool.group(rig.backends) if is_group else rig.backends
    asked = rig.pool.warm(where, 2, ident="us")
    rig.clock.advance(0.5)
    assert pending(asked)
    rig.clock.advance(0.5)
    assert result_of(asked) is None
    assert rig.idle() == [2, 2, 2]
    rig.end()


@pytest.mark.parametrize("is_group", [False, True])
def test_the_first_backend_that_fails_fails_it(is_group: bool) -> None:
    rig = Warmed()
    rig.fakes[1].refuse(reason=OSError("no route"), after=0.5, always=True)
    where = rig.pool.group(rig.backends) if is_group else rig.backends
    asked = rig.pool.warm(where, 2, ident="us")
    rig.clock.advance(0.5)
    with pytest.raises(ConnectFailed, match="no route"):
        result_of(asked)
    rig.clock.advance(0.5)
    assert rig.idle()[::2] == [2, 2]
    rig.end()


def test_cancelling_it_for_several_cancels_all() -> None:
    rig = Warmed()
    asked = rig.pool.group(rig.backends).warm(2, ident="us")
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    rig.end()


@implementer(ISource)
class Late:
    """A source that the test tells."""

    def start(self, listener: Any) -> None:
        self.tell = listener

    def stop(self) -> None:
        pass


def test_a_group_without_a_list_waits_for_the_first() -> None:
    rig = Warmed()
    source = Late()
    group = rig.pool.group(source)
    asked, late = group.warm(1, 4.0, ident="us"), group.warm(1, 1.0, ident="us")
    rig.clock.advance(1.0)
    with pytest.raises(NoBackend):
        result_of(late)
    source.tell(rig.backends[:2])
    rig.clock.advance(1.0)
    result_of(asked)
    assert rig.idle()[:2] == [1, 1]
    group.close()
    with pytest.raises(Closed):
        result_of(group.warm(ident="us"))
    rig.end()


# The head-room, from the start


def test_min_idle_is_kept_for_what_warm_has_named() -> None:
    rig = Warmed(min_idle=2)
    asked = rig.warm(1)
    rig.clock.advance(1.0)
    result_of(asked)
    rig.clock.advance(1.0)
    assert rig.idle()[0] == 2
    rig.end()


def test_min_idle_is_kept_from_the_start_for_the_ident_of_a_group() -> None:
    rig = Warmed(min_idle=2)
    source = Late()
    rig.pool.group(source, ident="us")
    source.tell(rig.backends[:2])
    rig.clock.pump([0, 1.0, 1.0])
    assert rig.idle()[:2] == [2, 2]
    source.tell(rig.backends)
    rig.clock.pump([0, 1.0, 1.0])
    assert rig.idle() == [2, 2, 2]
    lease = result_of(rig.connect(2))
    assert not lease.reused
    lease.release()
    rig.end()


def test_without_an_ident_a_group_connects_from_the_first_request_on() -> None:
    rig = Warmed(min_idle=2)
    rig.pool.group(rig.backends)
    rig.clock.pump([0, 1.0])
    assert not any(each.attempts for each in rig.fakes)
    rig.end()


def test_without_min_idle_a_group_makes_no_manager_for_its_ident() -> None:
    rig = Warmed()
    rig.pool.group(rig.backends, ident="us")
    assert rig.pool.status() == []
    rig.end()


def test_a_backend_that_fails_at_the_start_does_not_keep_the_others_from_it() -> None:
    rig = Warmed(min_idle=1)
    rig.fakes[0].refuse(always=True)
    rig.pool.group(rig.backends, ident="us")
    rig.clock.pump([0, 1.0])
    assert rig.idle() == [0, 1, 1]
    with pytest.raises(NotFired):
        result_of(Deferred())
    rig.end()


def test_the_error_of_a_call_that_is_refused_keeps_nothing_of_its_caller() -> None:
    rig = Warmed()
    asked = rig.connect()
    rig.clock.advance(1)
    lease = result_of(asked)
    drained = rig.pool.drain(rig.backends[0])
    errors: list[Failure] = []

    def ask() -> weakref.ref[Any]:
        of_caller = Protocol()
        rig.warm(1).addErrback(errors.append)
        return weakref.ref(of_caller)

    gone = ask()
    assert errors[0].check(Draining)
    assert gone() is None
    lease.release()
    rig.clock.advance(1)
    result_of(drained)
    rig.end()


@pytest.mark.parametrize("count", [2, 4])
def test_one_more_call_is_not_dearer_where_many_wait(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, ready = 0, Warming._ready

    def _ready(warming: Warming) -> int:
        nonlocal looks
        looks += 1
        return ready(warming)

    monkeypatch.setattr(Warming, "_ready", _ready)
    warmed, spent = Warmed(), list[int]()
    for _ in range(100):
        looks = 0
        warmed.warm(count, timeout=60.0)
        spent.append(looks)
    assert spent[-1] == spent[1]
    looks = 0
    warmed.clock.advance(1)
    assert warmed.idle()[0] == count
    assert looks < 5 * len(spent)
    warmed.end()
