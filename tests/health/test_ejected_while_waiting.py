"""Requests of groups that were placed at a backend before it was ejected wait for the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Ejection, Lease, Policy, Pool
from kolus.status import State
from kolus.testing import FakeBackend, result_of
from tests.rigs.groups import Sourced, names
from tests.rigs.health_rigs import Nursed

ASKS: dict[str, Callable[[Placed], Deferred[Any]]] = {
    "a group": lambda rig: rig.ask(timeout=60.0),
    "some of a group": lambda rig: rig.ask(timeout=60.0, exclude=rig.backends[2:]),
    "a list": lambda rig: rig.pool.select("us", rig.backends, rig.group.balancer, timeout=60.0),
    "a group, fresh": lambda rig: rig.ask(timeout=60.0, fresh=True),
}
HOWS: dict[str, Callable[[Placed], object]] = {
    "its leases fail": lambda rig: rig.fail_all(),
    "it is ejected by hand": lambda rig: rig.pool.eject(rig.backends[0]),
    "its health check fails": lambda rig: rig.pool.checked(rig.backends[0], "down"),
}


class Placed(Nursed):
    """Backends that have nothing left, and requests that wait at all of them. The first answers no
    attempt from now on.

    @ivar held: the leases of the first, then of the second, and so on; three each.
    @ivar served: the leases of the requests.
    """

    def __init__(
        self, count: int = 2, ask: str = "a group", waiting: int = 6, **policy: Any
    ) -> None:
        super().__init__(count, **({"limit": 3, "ejection": Ejection(failures=3)} | policy))
        self.held = [lease for place in range(count) for lease in self.fill_at(place)]
        self.served: list[Lease[Any]] = []
        for _ in range(waiting):
            ASKS[ask](self).addCallback(self.served.append)
        assert self.waiting()[0] > 0
        self.fakes[0].never_answer(always=True)

    def attempts(self, place: int = 0) -> int:
        """The attempts to connect beside those for the first leases."""
        return self.fakes[place].attempts - 3

    def fail_all(self, place: int = 0) -> None:
        """The first leases of a backend all fail."""
        for each in self.held[3 * place : 3 * place + 3]:
            each.finished(failed=True)
        self.turn()

    def wait(self) -> None:
        """Let time pass in which attempts begin, turn out to be slow, and fail."""
        self.clock.pump([0.3] * 4)

    def come_home(self) -> None:
        """The leases of the others come home, and those that follow."""
        held = self.held[3:]
        while held:
            for each in held:
                each.release()
            self.turn()
            held = [each for each in self.served if each.held]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("how", HOWS)
def test_who_waited_at_a_backend_is_served_by_the_others_when_it_is_ejected(
    how: str, ask: str
) -> None:
    rig = Placed(3, ask)
    HOWS[how](rig)
    for each in rig.held[:3]:
        if each.held:
            each.finished()
    rig.wait()
    assert rig.attempts() == 0
    assert rig.waiting()[0] == 0
    for each in rig.held[3:6]:
        each.finished()
    rig.turn()
    assert names(rig.served) == "bbb"


def test_a_backend_that_refuses_fails_nobody_who_waited_there_when_it_was_ejected() -> None:
    rig = Placed()
    rig.fakes[0].refuse(always=True)
    rig.fail_all()
    rig.wait()
    assert rig.attempts() == 0
    rig.come_home()
    assert names(rig.served) == "bbbbbb"


def test_what_was_connected_for_them_before_serves_nobody_until_the_probe() -> None:
    rig = Placed()
    rig.fakes[0].accept(after=0.1, always=True)
    rig.held[0].finished(failed=True)
    rig.turn()
    assert rig.attempts() == 1
    for each in rig.held[1:3]:
        each.finished(failed=True)
    rig.clock.pump([0.1, 0])
    assert rig.pool.status(rig.backends)[0].idle == 1
    assert rig.served == []


# The probe


@pytest.mark.parametrize("ends", ["is refused", "is never answered", "is held"])
def test_a_probe_is_followed_by_nobody_who_waited_before(ends: str) -> None:
    rig = Placed(connect_timeout=1.0)
    rig.fail_all()
    rig.until_due()
    rig.wait()
    assert rig.attempts() == 0
    if ends == "is refused":
        rig.fakes[0].refuse()
    elif ends == "is held":
        rig.fakes[0].accept()
    probe = rig.ask()
    assert rig.attempts() == 1
    rig.wait()
    assert rig.attempts() == 1
    assert probe.called is (ends == "is held")
    assert rig.served == []
    rig.come_home()
    assert names(rig.served) == "bbbbbb"


def test_who_waited_before_follows_a_probe_that_went_well() -> None:
    rig = Placed()
    rig.fail_all()
    rig.until_due()
    rig.fakes[0].accept(always=True)
    probe = rig.lease()
    assert rig.served == []
    probe.release()
    rig.turn()
    assert names(rig.served) == "aaa"


def test_a_probe_that_decided_nothing_goes_elsewhere_when_the_next_is_due() -> None:
    rig = Placed(connect_timeout=60.0)
    rig.fail_all()
    rig.until_due()
    rig.ask(timeout=60.0)
    assert rig.waiting() == [1, 6]
    rig.until_due()
    assert rig.waiting() == [0, 7]
    rig.ask(timeout=60.0)
    assert rig.waiting() == [1, 7]


def test_another_ejection_leaves_a_probe_where_it_is() -> None:
    rig = Placed(4)
    rig.fail_all()
    rig.until_due()
    rig.ask(timeout=60.0)
    assert rig.waiting()[0] == 1
    rig.pool.eject(rig.backends[1])
    assert rig.waiting()[:2] == [1, 0]


# Panic


def test_in_panic_who_waited_at_an_ejected_backend_is_connected_for_there() -> None:
    rig = Placed()
    rig.pool.eject(rig.backends[0])
    rig.fakes[1].never_answer(always=True)
    rig.fail_all(1)
    assert rig.group.status().panics
    assert rig.attempts(1) == 3
    rig.held[0].release()
    assert names(rig.served) == "a"


def test_when_all_are_ejected_all_serve() -> None:
    rig = Placed()
    for each in rig.backends:
        rig.pool.eject(each)
    rig.fakes[0].accept(always=True)
    for each in rig.held:
        each.finished()
    rig.turn()
    assert sorted(names(rig.served)) == ["a", "a", "a", "b", "b", "b"]


class Panicking(Sourced):
    """Two of three backends are ejected, and in this panic two requests are connected for at each.

    @ivar probed: whether one of the two at C{b} is its probe.
    """

    def __init__(self, *, probed: bool) -> None:
        super().__init__("abc", limit=2, ejection=Ejection(failures=1, first=1.0))
        self.held = [self.at("a"), self.at("a")]
        self.at("b").finished(failed=True)
        self.pool.eject(self.known["c"])
        self.clock.advance(0.75 if probed else 0)
        for each in "bcd":
            self.fake(each).never_answer(always=True)
        for _ in range(4):
            self.ask(timeout=60.0)
        assert self.waiting() == [0, 2, 2, 0]
        assert self.status("b").state is State.EJECTED


@pytest.mark.parametrize("ends", ["one is admitted", "the list is longer"])
@pytest.mark.parametrize("probed", [False, True])
def test_when_a_panic_ends_who_waited_at_an_ejected_backend_goes_elsewhere(
    ends: str, probed: bool
) -> None:
    rig = Panicking(probed=probed)
    if ends == "one is admitted":
        rig.pool.admit(rig.known["c"])
    else:
        rig.tell("abcd")
    assert not rig.group.status().panics
    assert rig.waiting()[1] == probed


# Nobody else


def test_who_waits_at_an_ejected_backend_stays_if_no_other_may_serve() -> None:
    rig = Placed()
    rig.pool.pause(rig.backends[1])
    rig.pool.eject(rig.backends[0])
    rig.held[0].release()
    assert names(rig.served) == "a"
    rig.pool.resume(rig.backends[1])
    assert rig.waiting() == [0, 5]


def test_a_request_waits_elsewhere_though_the_balancer_chose_what_is_ejected() -> None:
    rig = Placed(waiting=2, balancer=lambda statuses: statuses[0])
    rig.pool.eject(rig.backends[0])
    rig.held[0].finished()
    rig.turn()
    rig.ask(timeout=60.0)
    rig.wait()
    assert (rig.attempts(), rig.waiting()) == (0, [0, 3])


def in_order(order: str) -> Callable[[Any], Any]:
    """A balancer that takes the first of these that is there, ejected or not."""
    return lambda statuses: min(statuses, key=lambda each: order.index(str(each.backend)))


def test_a_request_that_a_chosen_backend_refuses_waits_for_another_that_is_well() -> None:
    rig = Nursed(3, in_order("abc"), idents="reject", limit=1)
    theirs = result_of(rig.pool.connect("them", rig.backends[0]))
    ours = rig.at(1)
    rig.pool.resize_pool(2)
    rig.pool.eject(rig.backends[1])
    asked = rig.ask(timeout=60.0)
    assert rig.waiting() == [0, 0, 1]
    theirs.finished()
    rig.turn()
    assert str(result_of(asked).backend) == "c"
    ours.release()


def test_a_request_whose_chosen_backend_cannot_be_used_waits_for_another_that_is_well() -> None:
    clock = Clock()
    backends = [Backend(FakeBackend(clock), name=name) for name in "abc"]

    def make(backend: Backend, ident: Any) -> Any:
        if backend is backends[1]:
            raise ValueError("it cannot be used")
        return pool._make(backend, ident)

    policy = Policy(limit=1, idents="separate")
    pool: Pool[Any] = Pool(clock, Protocol, policy=policy, make_manager=make)
    group = pool.group(backends, in_order("bac"))
    held = [result_of(pool.connect("us", each)) for each in (backends[0], backends[2])]
    pool.eject(backends[0])
    asked = group.connect("us", timeout=60.0)
    assert [each.waiting for each in pool.status(backends)] == [0, 0, 1]
    held[1].release()
    assert result_of(asked).backend is backends[2]
    held[0].release()
