"""Rule 30: after a failed connect another backend is tried; the last error names all of them."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import (
    Backend,
    Closed,
    ConnectFailed,
    LeaseTimeout,
    Policy,
    Pool,
    Status,
)
from kolus.balance import pick_two
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of
from tests.rigs.groups import Grouped, Sourced, names
from tests.rigs.pools import Half


def test_a_failed_connect_is_retried_elsewhere() -> None:
    rig = Grouped(3)
    rig.fakes[0].refuse()
    rig.fakes[1].refuse()
    assert rig.lease().backend is rig.backends[2]


def test_a_retry_keeps_the_deadline() -> None:
    rig = Grouped(2)
    rig.fakes[0].refuse(after=0.2, always=True)
    rig.fakes[1].never_answer()
    asked = rig.ask(timeout=2.0)
    rig.clock.advance(0.2)
    assert rig.fakes[1].attempts == 1
    rig.clock.pump([0.1] * 17)
    assert not asked.called
    rig.clock.advance(0.1)
    with pytest.raises(LeaseTimeout) as caught:
        result_of(asked)
    assert list(caught.value.tried) == [rig.backends[0]]
    assert "ConnectionRefusedError" in str(caught.value)


def test_the_error_at_the_end_names_every_backend_that_was_tried_and_why() -> None:
    rig = Grouped(3)
    for fake, why in zip(rig.fakes, "xyz", strict=True):
        fake.refuse(reason=ConnectionRefusedError(f"because of {why}"))
    with pytest.raises(ConnectFailed) as caught:
        rig.lease()
    assert list(caught.value.tried) == rig.backends
    for each in ("a: ", "b: ", "because of x", "because of y", "because of z", "to c"):
        assert each in str(caught.value)


@pytest.mark.parametrize("backoff", ["on", "off"])
def test_where_all_refuse_a_request_ends(backoff: str) -> None:
    rig = Grouped(3, **({} if backoff == "on" else {"backoff": None}))
    for fake in rig.fakes:
        fake.refuse(always=True)
    for _ in range(5):
        with pytest.raises(ConnectFailed):
            rig.lease()
    assert rig.waiting() == [0, 0, 0]


def test_a_request_that_a_lease_may_still_serve_outlives_failed_connects() -> None:
    rig = Grouped(3)
    held = rig.lease()
    rig.fakes[1].refuse()
    rig.fakes[2].refuse()
    asked = rig.ask()
    assert not asked.called
    held.release()
    assert result_of(asked).backend is rig.backends[0]


def test_a_request_is_placed_where_a_back_off_that_began_while_it_waited_is_over() -> None:
    rig = Grouped(2)
    held = rig.lease()
    rig.fakes[1].refuse(after=0.2)
    failing = rig.pool.connect("us", rig.backends[1])
    asked = rig.ask()
    rig.clock.advance(0.2)
    failure_of(ConnectFailed, failing)
    rig.clock.advance(0.2)
    assert result_of(asked).backend is rig.backends[1]
    assert held.held


@pytest.mark.parametrize("left", [False, True])
def test_a_request_that_comes_in_a_back_off_is_placed_there_when_that_is_over(left: bool) -> None:
    rig = Grouped(2, lambda statuses: statuses[0])
    held = rig.lease()
    rig.fakes[1].refuse()
    failure_of(ConnectFailed, rig.pool.connect("us", rig.backends[1]))
    asked = rig.ask()
    if left:  # the back-off is over while nobody waits
        asked.cancel()
        asked.addErrback(lambda failure: failure.trap(CancelledError))
        rig.clock.advance(0.2)
        asked = rig.ask()
    rig.clock.advance(0.2)
    assert result_of(asked).backend is rig.backends[1]
    assert held.held


def test_a_request_is_placed_where_a_pause_is_over_if_the_longer_one_of_all_ends_early() -> None:
    rig = Grouped(2, lambda statuses: statuses[0], limit=2)
    held = [rig.lease(), rig.lease(), result_of(rig.pool.connect("us", rig.backends[1]))]
    rig.fakes[1].refuse(reason=OSError(errno.EADDRNOTAVAIL, "no port left"))
    gone = rig.pool.connect("us", rig.backends[1])  # which pauses
    gone.addErrback(lambda failure: failure.trap(CancelledError))
    gone.cancel()
    held.pop().release()
    held.append(result_of(rig.pool.connect("us", rig.backends[1])))
    working, lacking = FakeBackend(rig.clock).accept(after=0.03), FakeBackend(rig.clock)
    connecting = rig.pool.connect("us", Backend(working))
    rig.clock.advance(0.02)
    lacking.refuse(reason=OSError(errno.EMFILE, "too many open files"))
    paused = rig.pool.connect("us", Backend(lacking))  # for which all pause, and for longer
    asked = rig.ask()
    rig.clock.advance(0.01)
    assert result_of(connecting).held
    assert result_of(paused).held
    rig.clock.advance(0.025)
    assert result_of(asked).backend is rig.backends[1]
    assert all(each.held for each in held)


def test_who_was_tried_where_there_is_room_again_is_not_in_the_way_of_others() -> None:
    rig = Grouped(2, lambda statuses: statuses[1], idents="separate", backoff=None)
    others = result_of(rig.pool.connect("them", rig.backends[0]))
    rig.lease()
    asked = [rig.ask(), rig.ask()]
    placer = rig.group._candidates.queue("us")._placer
    newest: Any = asked[-1]
    placer._requests[newest].round.add(rig.backends[0])  # without a back-off it stays so
    others.finished()
    rig.turn()
    assert result_of(asked[0]).backend is rig.backends[0]


def test_who_is_placed_where_there_is_room_again_is_not_in_the_way_of_others() -> None:
    rig = Grouped(2, limit=2, backoff=None)
    held = [result_of(rig.pool.connect("us", rig.backends[1])) for _ in range(2)]
    rig.fakes[0].never_answer()  # once: one more attempt has to be made
    rig.pool.pause(rig.backends[0])
    asked = [rig.ask(balancer=lambda statuses, n=n: statuses[n]) for n in (1, 0)]
    rig.pool.resume(rig.backends[0])
    assert rig.fakes[0].attempts == 2
    assert result_of(asked[0]).backend is rig.backends[0]
    assert all(each.held for each in held)


def test_requests_that_a_slow_backend_may_serve_do_not_try_very_many_dead_ones_without_end() -> (
    None
):
    clock = Clock()
    fakes = [FakeBackend(clock).refuse(after=0.002, always=True) for _ in range(250)]
    fakes[0].never_answer()
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy(limit=2), rng=Half())
    group = pool.group([Backend(each, name=str(n)) for n, each in enumerate(fakes)], pick_two())
    asked = [group.connect("us", timeout=2.9) for _ in range(2)]
    looked: list[object] = []
    finder: Any = group._candidates.queue("us")._room_finder
    has_room = finder.has_room

    def look(backend: Backend) -> bool:
        looked.append(backend)
        return bool(has_room(backend))

    finder.has_room = look
    clock.pump([0.002] * 1500)
    for each in asked:
        with pytest.raises(LeaseTimeout):
            result_of(each)
    assert len(looked) < 10_000
    assert sum(each.attempts for each in fakes) < 6 * len(fakes)


@pytest.mark.parametrize("what", ["cancels", "closes"])
def test_a_balancer_that_ends_a_request_while_it_chooses_again_raises_nowhere(what: str) -> None:
    rig = Grouped(3)
    for fake in rig.fakes:
        fake.refuse(after=0.1, always=True)
    asked: list[Deferred[Any]] = []

    def choose(statuses: Sequence[Status]) -> Status:
        if asked and what == "cancels":
            asked[0].cancel()
        elif asked:
            rig.group.close()
        return statuses[0]

    asked.append(rig.ask(balancer=choose))
    rig.clock.advance(0.1)
    failure_of(CancelledError if what == "cancels" else Closed, asked[0])
    assert rig.waiting() == [0, 0, 0]
    assert [each.attempts for each in rig.fakes] == [1, 0, 0]


def test_a_backend_that_leaves_while_its_manager_is_made_gets_no_request() -> None:
    rig = Sourced("ab")
    make = rig.pool._managers._make

    def leaving(backend: Backend, ident: Any) -> Any:
        if str(backend) == "a":
            rig.tell("b")
        return make(backend, ident)

    rig.pool._managers._make = leaving
    assert str(rig.lease().backend) == "b"
    assert rig.fake("a").attempts == 0


def test_a_manager_that_ends_as_it_is_made_gets_no_request_that_another_may_serve() -> None:
    rig = Sourced("abc")
    rig.fake("a").refuse(always=True)
    make = rig.pool._managers._make

    def ending(backend: Backend, ident: Any) -> Any:
        made = make(backend, ident)
        if str(backend) == "b":
            made.drain()
        return made

    rig.pool._managers._make = ending
    assert str(rig.lease().backend) == "c"


def test_who_is_connected_for_is_placed_elsewhere_when_an_attempt_for_another_ident_fails() -> None:
    rig = Grouped(2, limit=3)
    rig.fakes[0].never_answer()
    asked = rig.ask()
    rig.fakes[0].refuse()
    rig.pool.connect("them", rig.backends[0]).addErrback(lambda _: None)
    assert result_of(asked).backend == rig.backends[1]


def test_a_waiter_that_is_given_up_is_placed_once_though_who_waits_for_room_is_told() -> None:
    rig = Grouped(3)
    for each in rig.fakes:
        each.never_answer()
    asked: Any = rig.ask()
    first: Any = rig.pool.manager(rig.backends[0], "us")
    placer = asked.queue._placer
    placer._short[asked] = None
    first.demand_fell = placer.place_short
    first.placements.give_up(asked, ConnectFailed(rig.backends[0], ValueError(), 1.0))
    managers: list[Any] = [rig.pool.manager(each, "us") for each in rig.backends]
    placed = [each for each in managers if each is not None and asked in each.placements.waiters]
    assert placed == [asked.placement]


def _goes(rig: Sourced, how: str) -> None:
    """The backend a gives no leases any more."""
    if how == "leaves":
        rig.tell("b")
    else:
        rig.pool.drain(rig.known["a"])


class Paused(Sourced):
    """A group of two backends: one never answers, and attempts pause at the other one.

    @ivar asked: a request that waits at the first.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("ab", **settings)
        self.fake("a").never_answer(always=True)
        self.fake("b").refuse()
        asked = self.pool.connect("us", self.known["b"])
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.asked = self.ask(timeout=60.0)
        assert self.waiting()[:2] == [1, 0]


@pytest.mark.parametrize("how", ["leaves", "is drained"])
def test_who_waits_where_a_backend_goes_waits_for_one_that_may_recover(how: str) -> None:
    rig = Paused(fail_fast=False)
    _goes(rig, how)
    assert not rig.asked.called
    rig.clock.advance(1)
    assert names([result_of(rig.asked)]) == "b"


@pytest.mark.parametrize("how", ["leaves", "is drained"])
def test_who_fails_where_a_backend_goes_has_the_last_error_of_the_others(how: str) -> None:
    rig = Paused()
    _goes(rig, how)
    error = failure_of(ConnectFailed, rig.asked)
    assert error.backend == rig.known["b"]
    assert error.retry_in > 0
