"""What came in time is read before it is judged to be late, however long the reactor was blocked.

In each case something is under way, the reactor is blocked past its time limit, and the answer came
meanwhile. It must go as it would have gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus import Backend, Ejection, Lease, LeaseTimeout, Policy, Pool
from kolus.balance import fill_first
from kolus.endpoints import NamedEndpoint
from kolus.interfaces import ISource
from kolus.sources import DNSSource
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of
from tests.rigs.named_rig import ONE, TWO, Reactor, Resolver
from tests.rigs.stalling import StallingClock
from tests.rigs.steps import steps


class Asking(Protocol):
    """Each of its questions waits for an answer of the test.

    @cvar asked: the questions without an answer, of all protocols.
    """

    asked: list[Deferred[Any]] = []  # noqa: RUF012 (the world gives each subclass its own)

    def ask(self) -> Deferred[Any]:
        question: Deferred[Any] = Deferred()
        self.asked.append(question)
        return question

    async def ask_twice(self) -> None:
        await self.ask()
        await self.ask()

    def answer(self) -> None:
        self.asked.pop(0).callback(None)


class World:
    """A pool on a clock that can be blocked."""

    def __init__(self, **policy: Any) -> None:
        self.clock = StallingClock()
        self.fakes = [FakeBackend(self.clock) for _ in range(2)]
        self.one, self.other = self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, "ab", strict=True)
        ]
        self.asked: list[Deferred[Any]] = []
        self.protocol = type("Asking", (Asking,), {"asked": self.asked})
        settings = {"limit": 1, "ejection": Ejection(failures=1), "backoff": None} | policy
        self.pool: Pool[Any] = Pool(self.clock, self.protocol, policy=Policy(**settings))

    def ask(self) -> Deferred[Lease[Any]]:
        return self.pool.connect("us", self.one)

    def ask_within(self, ident: str, **how: Any) -> Deferred[Lease[Any]]:
        return self.pool.connect(ident, self.one, **how)

    def answer(self) -> None:
        self.asked.pop(0).callback(None)

    def is_healthy(self) -> bool:
        return all(
            each.state.name in ("OPEN", "ABSENT") for each in self.pool.status(self.backends)
        )


@implementer(IStreamClientEndpoint)
class Answered:
    """An endpoint that connects when the test says so."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Deferred[Any], Any]] = []

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        asked: Deferred[Any] = Deferred()
        self.attempts.append((asked, protocolFactory))
        return asked

    def accept(self) -> None:
        asked, factory = self.attempts.pop(0)
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        asked.callback(protocol)


Case = Callable[[], tuple[World, Callable[[], Any], Callable[[], Any]]]
"""Begins something; gives its world, what comes during the stall, and whether it went well."""


def served(asked: Deferred[Any]) -> Callable[[], bool]:
    return lambda: isinstance(result_of(asked), Lease)


def a_connect() -> Any:
    world, endpoint = World(), Answered()
    world.backends[0] = world.one = Backend(endpoint)  # type: ignore[assignment]
    asked = world.ask()
    return world, endpoint.accept, served(asked)


def a_prepare() -> Any:
    world = World(prepare=Asking.ask)
    asked = world.ask()
    return world, world.answer, served(asked)


def a_check() -> Any:
    world = World(check=Asking.ask, check_after=1.0, check_timeout=1.0)
    result_of(world.ask()).release()
    world.clock.advance(1)
    asked = world.ask()
    return world, world.answer, lambda: result_of(asked).reused


def a_reset() -> Any:
    world = World(reset=Asking.ask)
    result_of(world.ask()).release()
    asked = world.ask()
    return world, world.answer, lambda: result_of(asked).reused


def a_probe() -> Any:
    world = World(probe=Asking.ask, ejection=Ejection(failures=1, first=1.0, most=1.0))
    result_of(world.ask()).finished(failed=True)
    world.clock.pump([0.1] * 15)
    assert len(world.asked) == 1
    return world, world.answer, lambda: True


def a_wait() -> Any:
    world = World()
    lease = result_of(world.ask())
    asked = world.ask()
    return world, lease.release, served(asked)


def a_wait_with_its_own_time() -> Any:
    world = World()
    lease = result_of(world.ask())
    asked = world.pool.connect("us", world.one, timeout=3.0)
    return world, lease.release, served(asked)


def a_wait_for_a_group() -> Any:
    world = World()
    leases = [result_of(world.pool.connect("us", each)) for each in world.backends]
    asked = world.pool.select("us", world.backends)
    return world, leases[1].release, served(asked)


@implementer(ISource)
class Later:
    """A source that tells its list when the test says so."""

    def start(self, listener: Any) -> None:
        self.tell = listener

    def stop(self) -> None: ...


def a_wait_for_a_list() -> Any:
    world, source = World(), Later()
    asked = world.pool.group(source).connect("us")
    return world, lambda: source.tell(world.backends), served(asked)


def a_slow_connect() -> Any:
    world, endpoint = World(), Answered()
    slow = Backend(endpoint)
    asked = world.pool.select("us", [slow, world.one], balancer=fill_first)
    assert endpoint.attempts

    def is_alone() -> bool:
        return result_of(asked).backend == slow and not world.fakes[0].attempts

    return world, endpoint.accept, is_alone


class StallingReactor(StallingClock, Reactor):
    """A fake reactor that can be blocked."""


def an_address_that_is_slow() -> Any:
    world = World()
    reactor = world.clock = StallingReactor(Resolver())
    reactor.nameResolver.answers = [ONE, TWO]
    asked = NamedEndpoint(reactor, "a.test", 80, 1.0).connect(Factory.forProtocol(Protocol))

    def accept() -> None:
        factory: Any = reactor.tcpClients[0][2]
        factory.buildProtocol(None).makeConnection(StringTransport())

    return world, accept, lambda: result_of(asked) and len(reactor.tcpClients) == 1


class Records:
    """A resolver whose lookups are answered by the test."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def lookupAddress(self, name: str, timeouts: object) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


def a_lookup() -> Any:
    world, resolver = World(), Records()
    told: list[Any] = []
    source: Any = DNSSource(world.clock, "a.test", 80, kind="ipv4", resolver=resolver)  # type: ignore[arg-type]
    source.start(told.append)
    failed: list[Failure] = []
    resolver.asked[0].addErrback(failed.append)
    answer = ([], [], [])
    return world, lambda: resolver.asked[0].callback(answer), lambda: not failed


CASES = pytest.mark.parametrize(
    "case",
    [
        a_connect,
        a_prepare,
        a_check,
        a_reset,
        a_probe,
        a_wait,
        a_wait_with_its_own_time,
        a_wait_for_a_group,
        a_wait_for_a_list,
        a_slow_connect,
        an_address_that_is_slow,
        a_lookup,
    ],
    ids=lambda each: each.__name__,
)


@CASES
@pytest.mark.parametrize("seconds", [5.1, 100.0])
def test_what_came_while_the_reactor_was_blocked_came_in_time(case: Case, seconds: float) -> None:
    world, comes, went_well = case()
    world.clock.stall(seconds, comes)
    assert went_well()
    assert world.is_healthy()


def test_the_time_of_a_hook_that_needs_two_answers_begins_anew_after_the_stall() -> None:
    world = World(prepare=Asking.ask_twice, prepare_timeout=3.0, acquire_timeout=None)
    asked = world.ask()
    world.clock.stall(5, world.answer)
    world.clock.advance(2.9)
    world.answer()
    assert served(asked)()


def test_a_peer_that_stays_silent_fails_after_its_time_at_most_twice() -> None:
    world = World(prepare=Asking.ask, prepare_timeout=3.0, acquire_timeout=None)
    asked = world.ask()
    asked.addErrback(lambda failure: None)
    world.clock.stall(100)
    world.clock.stall(3)
    assert asked.called
    assert not world.is_healthy()


@pytest.mark.parametrize("timeout", [None, 1.0])
@pytest.mark.parametrize("how", ["manager", "fresh", "group"])
def test_who_waits_for_a_hook_that_a_stall_interrupts_waits_on(
    how: str, timeout: float | None
) -> None:
    world = World(prepare=Asking.ask_twice, acquire_timeout=1.0)
    group = world.pool.group([world.one])
    connect = group.connect if how == "group" else world.ask_within
    asked = connect("us", timeout=timeout, fresh=how == "fresh")
    late = connect("us", timeout=timeout, fresh=how == "fresh")
    world.clock.stall(1.5, world.answer)  # as if its own code had blocked it before it asked again
    assert not asked.called
    world.clock.advance(0.2)
    world.answer()
    result_of(asked).release()
    if how == "fresh":
        late.addErrback(lambda _: None).cancel()
    else:
        result_of(late).release()


@pytest.mark.parametrize("hook", ["check", "reset"])
def test_who_waits_for_a_connection_in_a_hook_waits_on_after_a_stall(hook: str) -> None:
    settings = {hook: Asking.ask_twice, "check_after": 0.0}
    world = World(acquire_timeout=1.0, **settings)
    if hook == "reset":
        result_of(world.ask()).release()
    asked = world.ask()
    world.clock.stall(1.5, world.answer)
    world.clock.advance(0.2)
    world.answer()
    result_of(asked)


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("ends", ["release", "finished"])
@pytest.mark.parametrize("how", ["connect", "fresh", "ident", "group", "pool"])
def test_who_waits_for_what_makes_way_after_a_stall_waits_on(
    how: str, ends: str, slots: int | None
) -> None:
    world = World(slots=slots)
    if how == "pool":
        world.pool.resize_pool(1)
    group = world.pool.group([world.one])
    leases = [result_of(world.ask()) for _ in range(slots or 1)]
    asked = {
        "connect": lambda: world.ask_within("us", timeout=2.0),
        "fresh": lambda: world.ask_within("us", timeout=2.0, fresh=True),
        "ident": lambda: world.ask_within("them", timeout=2.0),
        "group": lambda: group.connect("them", timeout=2.0),
        "pool": lambda: world.pool.connect("us", world.other, timeout=2.0),
    }[how]()
    world.clock.stall(100.0, *[getattr(each, ends) for each in leases])
    world.clock.pump([0, 0, 0])
    assert result_of(asked).held


def test_after_a_stall_who_waits_for_a_silent_peer_fails_soon() -> None:
    world = World(prepare=Asking.ask_twice, acquire_timeout=1.0)
    asked = world.ask()
    world.clock.stall(1.5, world.answer)
    world.clock.advance(0.26)
    failure_of(LeaseTimeout, asked)


def test_a_waiter_that_nothing_came_for_fails_in_the_turn_after_the_stall() -> None:
    world = World()
    lease = result_of(world.ask())
    asked = world.ask()
    world.clock.stall(5.5)
    failure_of(LeaseTimeout, asked)
    assert lease.held


def test_after_a_stall_a_waiter_costs_the_same_however_many_connections_are_leased() -> None:
    def steps_to_fail(connections: int) -> int:
        world = World(limit=connections)
        leases = [result_of(world.ask()) for _ in range(connections)]
        asked = [world.ask() for _ in range(200)]
        spent = steps(lambda: world.clock.stall(5.5))
        for each in asked:
            failure_of(LeaseTimeout, each)
        assert all(each.held for each in leases)
        return spent

    few, many = (steps_to_fail(size) for size in (10, 1_000))
    assert many <= 1.1 * few


def test_one_stall_is_logged_once_for_all_pools_and_backends(log_events: list[LogEvent]) -> None:
    world = World(prepare=Asking.ask)
    others = [Pool(world.clock, world.protocol, policy=world.pool.policy) for _ in range(3)]
    asked = [
        pool.connect("us", backend) for pool in (world.pool, *others) for backend in world.backends
    ]
    world.clock.stall(7, *[world.answer] * len(asked))
    assert all(served(each)() for each in asked)
    stalls = [each for each in log_events if "was blocked" in (each["log_format"] or "")]
    assert [each["least"] for each in stalls] == [pytest.approx(5.5)]  # since they are late
