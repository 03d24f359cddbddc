"""C{Group}: a live set of backends, its source, its balancer, and rules 31 and 32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from zope.interface import implementer

from kolus import (
    Backend,
    Closed,
    Draining,
    Group,
    GroupStatus,
    ISource,
    KolusError,
    Lease,
    LeaseError,
    LeaseTimeout,
    NoBackend,
    Policy,
    Pool,
    PoolFull,
    Status,
)
from kolus.backend import State
from kolus.balance import fill_first, least_leased, peak_ewma, round_robin
from kolus.testing import FakeBackend, result_of
from tests.rigs import Half


@implementer(ISource)
class Teller:
    """A source that tells what a test tells it.

    @ivar started: whether it is.
    """

    def __init__(self) -> None:
        self.started = False
        self._listener: Any = None

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        if self.started:
            raise RuntimeError("this source is started already")
        self.started = True
        self._listener = listener

    def stop(self) -> None:
        self.started = False

    def tell(self, *backends: Backend) -> None:
        assert self.started
        self._listener(backends)


class Rig:
    """Backends that obey, a source that tells some of them, and a group that listens to it."""

    def __init__(self, told: str = "abc", balancer: Any = fill_first, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = {name: FakeBackend(self.clock) for name in "abcd"}
        self.known = {name: Backend(fake, name=name) for name, fake in self.fakes.items()}
        self.pool: Pool[Any] = Pool(
            self.clock, Protocol, policy=Policy(**({"limit": 1} | policy)), rng=Half()
        )
        self.source = Teller()
        self.group: Group[Any] = self.pool.group(self.source, balancer, "them")
        if told:
            self.tell(told)

    def tell(self, names: str) -> None:
        self.source.tell(*[self.known[name] for name in names])

    def ask(self, **how: Any) -> Deferred[Lease[Any]]:
        return self.group.connect("us", **how)

    def lease(self, **how: Any) -> Lease[Any]:
        return result_of(self.ask(**how))

    def at(self, name: str) -> Lease[Any]:
        return result_of(self.pool.connect("us", self.known[name]))

    def status(self, name: str) -> Status:
        return self.pool.status([self.known[name]])[0]

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


def names(backends: Sequence[Any]) -> str:
    """The names of backends, of their statuses or of leases of them."""
    return "".join([str(getattr(each, "backend", each)) for each in backends])


def is_waiting(asked: Deferred[Any]) -> bool:
    return not asked.called


# What it tells


def test_its_statuses_are_in_the_order_of_the_source() -> None:
    rig = Rig("bca")
    assert names(rig.group.backends) == "bca"
    assert names(rig.group.status().backends) == "bca"
    rig.tell("cab")
    assert names(rig.group.backends) == "cab"
    assert names(rig.group.status().backends) == "cab"


def test_its_status_tells_its_numbers() -> None:
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    asked = [rig.ask() for _ in range(3)]
    rig.pool.eject(rig.known["a"])
    status = rig.group.status()
    assert isinstance(status, GroupStatus)
    assert (status.name, status.waiting) == ("them", 3)
    assert (status.ejected, status.panics, status.panicked) == (1, False, 0)
    assert [each.leased for each in status.backends] == [1, 1]
    assert sum(each.waiting for each in status.backends) == 3
    for each in asked:
        each.addErrback(lambda failure: None)
        each.cancel()
    assert rig.group.status().waiting == 0
    assert len(held) == 2


def test_waiting_counts_requests_with_another_balancer_too() -> None:
    rig = Rig("abc")
    held = [rig.lease() for _ in range(3)]
    asked = [rig.ask(), rig.ask(balancer=least_leased)]
    assert rig.group.status().waiting == 2
    for each in held:
        each.release()
    assert not any(map(is_waiting, asked))


def test_its_repr_tells_its_name_and_how_many_backends() -> None:
    rig = Rig("ab")
    assert repr(rig.group) == "<Group 'them' of 2 backends>"
    assert repr(rig.pool.group([rig.known["a"]])) == "<Group of 1 backends>"


# Leases


def test_a_lease_is_of_one_of_its_backends() -> None:
    rig = Rig("ab")
    leases = [rig.lease(), rig.lease()]
    assert names(leases) == "ab"
    assert leases[0].ident == "us"


def test_try_connect_leases_what_is_ready() -> None:
    rig = Rig("ab")
    assert rig.group.try_connect("us") is None
    rig.at("b").release()
    lease = rig.group.try_connect("us")
    assert lease is not None
    assert names([lease]) == "b"
    assert rig.group.try_connect("us") is None
    assert rig.fakes["a"].attempts == 0
    lease.release()


def test_try_connect_does_not_overtake_who_waits() -> None:
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    rig.ask(balancer=round_robin())
    taken: list[Any] = []
    asked = rig.ask()
    asked.addCallback(lambda lease: taken.append(rig.group.try_connect("us")))
    held[0].release()
    assert rig.group.try_connect("us") is None


def test_try_connect_keeps_to_exclude() -> None:
    rig = Rig("ab")
    rig.at("b").release()
    assert rig.group.try_connect("us", exclude=[rig.known["b"]]) is None
    lease = rig.group.try_connect("us", exclude=[rig.known["a"]])
    assert lease is not None
    lease.release()


def test_try_connect_before_the_first_list_leases_nothing() -> None:
    assert Rig("").group.try_connect("us") is None


def test_where_all_are_excluded_there_is_no_backend() -> None:
    rig = Rig("ab")
    everything = [rig.known["a"], rig.known["b"]]
    with pytest.raises(NoBackend):
        rig.lease(exclude=everything)
    with pytest.raises(NoBackend):
        rig.group.try_connect("us", exclude=everything)


def test_exclude_takes_every_form_of_a_backend() -> None:
    clock = Clock()
    pool: Pool[Any] = Pool(clock, Protocol)
    group = pool.group(["tcp:192.0.2.1:1", ("192.0.2.2", 2)])
    everything = [("192.0.2.1", 1), "tcp:192.0.2.2:2"]
    with pytest.raises(NoBackend):
        result_of(group.connect("us", exclude=everything))


def test_a_request_has_a_deadline_of_its_own() -> None:
    rig = Rig("a")
    held = rig.lease()
    asked = rig.ask(timeout=0.5)
    rig.clock.advance(0.5)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    held.release()


def test_a_request_with_an_ident_that_is_refused_everywhere_is_refused() -> None:
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    with pytest.raises(KolusError, match="belongs to another ident"):
        result_of(rig.group.connect("others"))
    assert len(held) == 2


# The balancer


def test_the_policys_balancer_chooses_where_a_group_has_none() -> None:
    rig = Rig("", balancer=None)
    assert rig.group.balancer is rig.pool.policy.balancer


def test_a_request_can_have_a_balancer_of_its_own() -> None:
    def last(statuses: Sequence[Status]) -> Status:
        return statuses[-1]

    rig = Rig("abc")
    lease = rig.lease(balancer=last)
    assert names([lease]) == "c"
    lease.release()
    again = rig.group.try_connect("us", balancer=last)
    assert again is not None
    again.release()


def test_a_balancer_that_raises_fails_the_request_and_is_logged(logged_failures: Any) -> None:
    def broken(statuses: Sequence[Status]) -> Status:
        raise ArithmeticError("cannot count")

    rig = Rig("ab", broken)
    with pytest.raises(NoBackend, match="raised ArithmeticError: cannot count"):
        rig.lease()
    with pytest.raises(NoBackend, match="raised ArithmeticError: cannot count"):
        rig.group.try_connect("us")
    assert len(logged_failures.flush(ArithmeticError)) == 2
    rig.lease(balancer=fill_first).release()


@pytest.mark.parametrize(
    "choose",
    [
        lambda statuses: None,
        lambda statuses: statuses[0].backend,
        lambda statuses: statuses[0].snapshot(),
        lambda statuses: 0,
    ],
)
def test_a_balancer_that_chooses_none_of_the_statuses_fails_the_request(choose: Any) -> None:
    rig = Rig("ab", choose)
    with pytest.raises(NoBackend, match="none of the 2 statuses"):
        rig.lease()


def test_a_balancer_cannot_choose_a_status_of_another_group() -> None:
    kept: list[Status] = []

    def keep(statuses: Sequence[Status]) -> Status:
        kept.append(statuses[0])
        return kept[0]

    rig = Rig("ab", keep)
    rig.lease().release()
    other = rig.pool.group([rig.known["c"]], lambda statuses: kept[0])
    with pytest.raises(NoBackend, match="none of the 1 statuses"):
        result_of(other.connect("us"))


def test_a_balancer_sees_a_sequence_of_statuses_with_all_their_fields() -> None:
    seen: list[Sequence[Status]] = []

    def look(statuses: Sequence[Status]) -> Status:
        seen.append(statuses)
        return statuses[0]

    rig = Rig("abc", look)
    held = rig.lease()
    (statuses,) = seen
    assert isinstance(statuses, Sequence)
    assert len(statuses) == 3
    assert names(list(statuses)) == "abc"
    assert names(statuses[1:]) == "bc"
    assert names(statuses[::-2]) == "ca"
    assert names([statuses[-1]]) == "c"
    assert statuses[1] in statuses
    assert statuses.index(statuses[2]) == 2
    with pytest.raises(IndexError):
        statuses[3]
    for each, told in zip(statuses, rig.group.status().backends, strict=True):
        assert isinstance(each, Status)
        for name in [field.name for field in fields(Status)]:
            assert getattr(each, name) == getattr(told, name), name
        for name in ("takes_requests", "load", "pressure", "room"):
            assert getattr(each, name) == getattr(told, name), name
        assert str(each) == str(told)
    assert statuses[0].leased == 1
    held.release()
    assert (statuses[0].leased, statuses[0].idle) == (0, 1)


def test_a_balancer_sees_the_numbers_of_all_idents_and_of_what_waits() -> None:
    seen: list[Sequence[Status]] = []

    def look(statuses: Sequence[Status]) -> Status:
        seen.append(statuses)
        return statuses[0]

    rig = Rig("ab", look, idents="separate", limit=2)
    held = [rig.lease(), result_of(rig.group.connect("others"))]
    waiting = [rig.pool.connect(ident, rig.known["a"]) for ident in ("us", "others", "us")]
    for each, told in zip(seen[0], rig.group.status().backends, strict=True):
        for name in [field.name for field in fields(Status)]:
            assert getattr(each, name) == getattr(told, name), name
        assert each.load == told.load
    assert (seen[0][0].leased, seen[0][0].waiting) == (2, 3)
    for lease in held:
        lease.release()
    rig.pool.close(0)
    rig.turn()
    for each in waiting:
        each.addErrback(lambda failure: None)


def test_a_balancer_that_learns_hears_how_long_leases_took() -> None:
    heard: list[tuple[str, float]] = []

    class Learning:
        def __call__(self, statuses: Sequence[Status]) -> Status:
            return statuses[0]

        def observe(self, backend: Backend, seconds: float) -> None:
            heard.append((str(backend), seconds))

    rig = Rig("ab", Learning())
    lease = rig.lease()
    rig.clock.advance(2.0)
    lease.release()
    assert heard == [("a", 2.0)]
    rig.tell("ba")
    rig.lease().release()
    assert len(heard) == 2
    rig.group.close()
    rig.at("a").release()
    assert len(heard) == 2


@pytest.mark.parametrize("kind", ["fill_first", "round_robin", "peak_ewma"])
def test_a_balancer_goes_on_with_another_list(kind: str) -> None:
    rig = Rig("abc", limit=20)
    balancer: Any = {
        "fill_first": lambda: fill_first,
        "round_robin": round_robin,
        "peak_ewma": lambda: peak_ewma(rig.clock, Half()),
    }[kind]()
    for told in ("abc", "cd", "d", "abcd", "a"):
        rig.tell(told)
        leases = [rig.lease(balancer=balancer) for _ in range(8)]
        assert set(names(leases)) <= set(told)
        for each in leases:
            each.release()
        rig.turn()


# A source that tells later


def test_requests_before_the_first_list_wait_for_it_and_are_served_in_turn() -> None:
    rig = Rig("")
    asked = [rig.ask() for _ in range(3)]
    assert all(map(is_waiting, asked))
    rig.tell("ab")
    assert names([result_of(each) for each in asked[:2]]) == "ab"
    assert is_waiting(asked[2])
    asked[2].addErrback(lambda failure: None)
    asked[2].cancel()


def test_no_more_wait_for_the_first_list_than_may_wait_at_all() -> None:
    rig = Rig("", max_waiters=2)
    asked = [rig.ask() for _ in range(3)]
    assert [is_waiting(each) for each in asked] == [True, True, False]
    assert rig.group.status().waiting == 2
    with pytest.raises(PoolFull, match="no backends yet, and 2 requests wait"):
        result_of(asked[2])
    rig.tell("ab")
    assert names([result_of(each) for each in asked[:2]]) == "ab"


def test_a_changed_list_is_told_in_the_log(log_events: list[LogEvent]) -> None:
    rig = Rig("ab")
    rig.tell("bc")
    told = [formatEvent(each) for each in log_events if "joined" in each["log_format"]]
    assert [each.partition(": ")[2] for each in told] == [
        "a, b joined, none left",
        "c joined, a left",
    ]


def test_a_newcomer_does_not_overtake_who_waits_for_the_first_list() -> None:
    rig = Rig("")
    newcomers: list[Deferred[Lease[Any]]] = []
    first, second = rig.ask(), rig.ask()
    leases: list[Lease[Any]] = []

    def ask_again(lease: Lease[Any]) -> None:
        newcomers.append(rig.ask())
        leases.append(lease)

    first.addCallback(ask_again)
    rig.tell("a")
    leases[0].release()
    assert not is_waiting(second)
    assert is_waiting(newcomers[0])
    newcomers[0].addErrback(lambda failure: None)
    newcomers[0].cancel()


def test_a_request_for_which_no_list_comes_fails_at_its_deadline() -> None:
    rig = Rig("")
    asked = rig.ask(timeout=2.0)
    rig.clock.advance(1.9)
    assert is_waiting(asked)
    rig.clock.advance(0.1)
    with pytest.raises(NoBackend, match=r"'them'.* not been told of any backend within 2 s"):
        result_of(asked)


def test_without_a_deadline_of_its_own_it_has_the_policys() -> None:
    rig = Rig("", acquire_timeout=3.0)
    asked = rig.ask()
    rig.clock.advance(3.0)
    with pytest.raises(NoBackend, match="within 3 s"):
        result_of(asked)


def test_the_time_until_the_first_list_is_part_of_the_deadline() -> None:
    rig = Rig("")
    held = rig.at("a")
    asked = rig.ask(timeout=2.0)
    rig.clock.advance(1.5)
    rig.tell("a")
    rig.clock.advance(0.4)
    assert is_waiting(asked)
    rig.clock.advance(0.2)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    held.release()


def test_a_request_can_be_cancelled_before_the_first_list() -> None:
    rig = Rig("")
    asked = rig.ask()
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    rig.tell("a")
    assert rig.fakes["a"].attempts == 0
    assert rig.clock.getDelayedCalls() == []


def test_an_owner_that_ends_before_the_first_list_ends_its_request() -> None:
    rig = Rig("")
    owner: Deferred[None] = Deferred()
    asked = rig.ask(owner=owner)
    owner.callback(None)
    rig.tell("a")
    with pytest.raises((CancelledError, LeaseError)):
        result_of(asked)
    assert rig.status("a").leased == 0


def test_closing_fails_who_waits_for_the_first_list() -> None:
    rig = Rig("")
    asked = rig.ask()
    rig.group.close()
    with pytest.raises(Closed, match="'them'"):
        result_of(asked)
    assert rig.clock.getDelayedCalls() == []


# 31: the list changes


def test_another_list_keeps_the_connections_and_the_load_of_those_that_stay() -> None:
    rig = Rig("abc", least_leased, limit=3)
    held = [rig.at("a"), rig.at("b")]
    rig.at("b").release()
    rig.tell("ba")
    assert (rig.status("a").leased, rig.status("b").leased, rig.status("b").idle) == (1, 1, 1)
    rig.at("b").release()
    assert rig.fakes["b"].attempts == 2
    held[0].release()
    assert rig.lease().backend is rig.known["a"]


def test_another_list_keeps_the_health_of_those_that_stay() -> None:
    rig = Rig("abc")
    rig.pool.eject(rig.known["a"])
    rig.tell("abd")
    assert rig.group.status().ejected == 1
    assert rig.status("a").state is State.EJECTED
    assert names([rig.lease()]) == "b"


def test_those_that_left_are_drained() -> None:
    rig = Rig("abc", limit=2)
    held, idle = rig.at("a"), rig.at("a")
    idle.release()
    rig.tell("bc")
    assert rig.status("a").state is State.DRAINING
    with pytest.raises(Draining):
        rig.at("a")
    rig.turn()
    assert len(rig.fakes["a"].connections) == 1
    held.release()
    rig.turn()
    assert rig.fakes["a"].connections == []
    assert rig.status("a").state is State.ABSENT


def test_who_waited_at_one_that_left_is_served_elsewhere() -> None:
    rig = Rig("ab")
    rig.fakes["a"].never_answer()
    asked = rig.ask()
    assert rig.status("a").waiting == 1
    rig.tell("b")
    assert names([result_of(asked)]) == "b"


def test_who_waited_at_one_that_left_goes_on_waiting_for_the_others() -> None:
    rig = Rig("ab")
    leases = {names([each]): each for each in (rig.lease(), rig.lease())}
    asked = [rig.ask() for _ in range(4)]
    rig.tell("b")
    assert all(map(is_waiting, asked))
    assert rig.group.status().waiting == 4
    for each in asked:
        leases["b"].release()
        leases["b"] = result_of(each)
        assert names([leases["b"]]) == "b"


def test_who_waited_is_served_by_one_that_came() -> None:
    rig = Rig("a")
    held = rig.lease()
    asked = [rig.ask() for _ in range(2)]
    rig.tell("ab")
    rig.clock.advance(0.1)
    assert [is_waiting(each) for each in asked] == [False, True]
    held.release()
    assert not is_waiting(asked[1])


def test_who_waited_where_nothing_can_serve_any_more_is_failed() -> None:
    rig = Rig("ab", backoff=None)
    rig.fakes["a"].never_answer()
    asked = rig.ask()
    rig.fakes["b"].refuse(always=True)
    rig.tell("b")
    with pytest.raises(KolusError):
        result_of(asked)
    assert rig.group.status().waiting == 0


def test_who_waited_at_all_of_them_is_served_when_all_have_left_and_others_came() -> None:
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    asked = [rig.ask(), rig.ask()]
    rig.tell("cd")
    assert sorted(names([result_of(each) for each in asked])) == ["c", "d"]
    assert len(held) == 2


def test_who_waited_without_some_is_served_or_failed_when_a_backend_leaves() -> None:
    rig = Rig("abc")
    held = {names([each]): each for each in [rig.lease() for _ in range(3)]}
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.tell("ac")
    assert is_waiting(asked)
    held["c"].release()
    assert names([result_of(asked)]) == "c"


def test_a_backend_that_another_group_still_has_is_not_drained() -> None:
    rig = Rig("ab")
    other = rig.pool.group([rig.known["a"]])
    held = rig.at("a")
    rig.tell("b")
    assert rig.status("a").state is State.OPEN
    held.release()
    assert result_of(other.connect("us")).reused


def test_a_backend_of_a_group_that_is_closed_is_drained_when_another_leaves_it() -> None:
    rig = Rig("ab")
    rig.pool.group([rig.known["a"]]).close()
    held = rig.at("a")
    rig.tell("b")
    assert rig.status("a").state is State.DRAINING
    held.release()


def test_a_changed_limit_takes_effect() -> None:
    rig = Rig("")
    backend = rig.known["a"]
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=1), backend)
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=7), backend)
    assert [each.limit for each in rig.group.status().backends] == [7, 1]


def test_a_larger_limit_in_another_list_serves_who_waits() -> None:
    rig = Rig("")
    fake = FakeBackend(rig.clock)
    one = Backend(fake, name="x", limit=1)
    two = object.__new__(Backend)  # the same key with another limit, as an endpoint string has
    for field in fields(Backend):
        object.__setattr__(two, field.name, getattr(one, field.name))
    object.__setattr__(two, "limit", 2)
    rig.source.tell(one)
    held = rig.lease()
    asked = rig.ask()
    rig.source.tell(two)
    assert not is_waiting(asked)
    held.release()


def test_a_limit_that_is_told_no_more_is_the_policys_again() -> None:
    rig = Rig("", limit=3)
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=7))
    rig.pool.eject("tcp:192.0.2.1:1")
    rig.source.tell(Backend("tcp:192.0.2.1:1"))
    assert [each.limit for each in rig.group.status().backends] == [3]


def test_a_changed_weight_and_zone_take_effect(logged_failures: Any) -> None:
    rig = Rig("")
    seen: list[Any] = []

    def look(statuses: Sequence[Status]) -> Status:
        seen.append((statuses[0].backend.weight, statuses[0].backend.zone, statuses[0].load))
        raise ArithmeticError

    for weight, zone in ((1.0, "x"), (4.0, "y")):
        rig.source.tell(Backend("tcp:192.0.2.1:1", weight=weight, zone=zone))
        rig.ask(balancer=look).addErrback(lambda failure: None)
    assert seen == [(1.0, "x", 1.0), (4.0, "y", 0.25)]
    logged_failures.flush(ArithmeticError)


def test_a_backend_that_comes_back_while_it_drains_serves_again_once_it_is_drained() -> None:
    rig = Rig("ab", least_leased)
    held = rig.at("a")
    rig.tell("b")
    rig.tell("ab")
    assert rig.status("a").state is State.DRAINING
    other = rig.lease()
    assert names([other]) == "b"
    asked = rig.ask()
    held.release()
    rig.turn()
    rig.clock.advance(0.2)
    assert rig.status("a").state is not State.DRAINING
    late = rig.ask()
    rig.clock.advance(0.2)
    assert not is_waiting(asked) or not is_waiting(late)
    other.release()
    assert not is_waiting(asked)


def test_where_the_only_backend_comes_back_while_it_drains_nobody_is_orphaned() -> None:
    rig = Rig("a")
    held = rig.lease()
    rig.tell("b")
    rig.fakes["b"].never_answer(always=True)
    asked = rig.ask(timeout=4.0)
    rig.tell("a")
    held.release()
    rig.turn()
    with suppress(Draining):
        assert names([result_of(asked)]) == "a"
    assert names([rig.lease()]) == "a"


def test_a_list_that_is_told_while_a_request_is_served_is_heard() -> None:
    rig = Rig("a")
    held = rig.lease()
    first, second = rig.ask(), rig.ask()
    first.addCallback(lambda lease: rig.tell("b"))
    held.release()
    assert names(rig.group.backends) == "b"
    assert names([result_of(second)]) == "b"


# The end


def test_closing_the_pool_closes_its_groups_and_stops_their_sources() -> None:
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    asked = rig.ask()
    closed = rig.pool.close(10)
    with pytest.raises(Closed):
        result_of(asked)
    assert not rig.source.started
    with pytest.raises(Closed):
        rig.lease()
    with pytest.raises(Closed):
        rig.group.try_connect("us")
    for each in held:
        each.release()
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_closing_a_group_stops_its_source_and_leaves_the_connections_be() -> None:
    rig = Rig("ab")
    rig.lease().release()
    rig.group.close()
    assert not rig.source.started
    assert rig.status("a").idle == 1
    rig.group.close()


def test_a_group_of_a_closed_pool_is_refused_and_its_source_not_started() -> None:
    rig = Rig("ab")
    rig.pool.close()
    source = Teller()
    with pytest.raises(Closed, match="the pool is closed"):
        rig.pool.group(source)
    assert not source.started


def test_nothing_of_a_closed_group_is_left_in_its_pool() -> None:
    rig = Rig("ab", peak_ewma(Clock()))
    rig.lease(balancer=least_leased).release()
    rig.group.close()
    accounts = rig.pool._managers.accounts
    assert not accounts._queues
    assert not accounts._watchers
    assert [each.watchers for each in accounts] == [[]]


def test_a_source_that_does_not_start_leaves_no_group_behind() -> None:
    rig = Rig("ab")
    with pytest.raises(RuntimeError, match="started already"):
        rig.pool.group(rig.source)
    assert rig.pool._groups._open == [rig.group]


# Bad input


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ([], ValueError, "at least one backend"),
        (["tcp:192.0.2.1:1", ("192.0.2.1", 1)], ValueError, "given twice"),
        (None, TypeError, "None"),
        ("tcp:192.0.2.1:1", TypeError, "several backends, not .tcp"),
        (5, TypeError, "5"),
        ([5], TypeError, "5"),
        (["nonsense"], ValueError, "nonsense"),
        (Backend("tcp:192.0.2.1:1"), TypeError, "192"),
    ],
)
def test_what_is_no_source_is_refused_at_once(source: Any, error: Any, says: str) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    with pytest.raises(error, match=says):
        pool.group(source)


@pytest.mark.parametrize("balancer", [5, "round_robin"])
def test_what_is_no_balancer_is_refused_at_once(balancer: Any) -> None:
    rig = Rig("a")
    for call in (
        lambda: rig.pool.group([rig.known["a"]], balancer),
        lambda: rig.ask(balancer=balancer),
        lambda: rig.group.try_connect("us", balancer=balancer),
    ):
        with pytest.raises(TypeError, match="balancer must be callable"):
            call()


@pytest.mark.parametrize("told", ["", "a"])
@pytest.mark.parametrize("exclude", [[5], ["nonsense"], [None]])
def test_an_exclude_that_is_no_backend_is_refused_at_once(told: str, exclude: Any) -> None:
    rig = Rig(told)
    with pytest.raises((TypeError, ValueError), match="not a "):
        rig.ask(exclude=exclude)


@pytest.mark.parametrize("told", ["", "a"])
@pytest.mark.parametrize("exclude", ["tcp:192.0.2.1:1", Backend("tcp:192.0.2.1:1"), 5])
def test_an_exclude_that_is_not_several_is_refused_at_once(told: str, exclude: Any) -> None:
    rig = Rig(told)
    with pytest.raises(TypeError, match="exclude"):
        rig.ask(exclude=exclude)


@pytest.mark.parametrize("told", ["", "a"])
@pytest.mark.parametrize("timeout", [-1, "5", float("nan"), True])
def test_a_timeout_that_is_no_time_is_refused_at_once(told: str, timeout: Any) -> None:
    rig = Rig(told)
    with pytest.raises(ValueError, match="timeout"):
        rig.ask(timeout=timeout)


@pytest.mark.parametrize("told", ["", "a"])
def test_an_owner_that_can_be_none_is_refused_at_once(told: str) -> None:
    rig = Rig(told)
    with pytest.raises(TypeError, match="owner"):
        rig.ask(owner=5)
