"""Whatever a pool does after a time is done in that time when the clock is set back by an hour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from kolus import Backend, Ejection, Lease, Policy, Pool, Status
from kolus.balance import peak_ewma
from kolus.endpoints import NamedEndpoint
from kolus.events import Event, Overdue
from kolus.interfaces import ISource
from kolus.sources import DNSSource, FileSource
from kolus.support import Alarm, Step
from kolus.testing import FakeBackend, result_of
from tests.rigs.named_rig import ONE, Reactor, Resolver
from tests.rigs.pools import Half

HOUR = 3600.0


def never(*_: object) -> Deferred[None]:
    return Deferred()


class World:
    """A pool with one connection to each backend, and another pool on the same clock."""

    def __init__(self, protocol: Any = Protocol, **policy: Any) -> None:
        self.clock = Reactor(Resolver())
        self.clock.rightNow = 100_000.0
        self.fakes = [FakeBackend(self.clock) for _ in range(2)]
        self.one, self.other = self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, "ab", strict=True)
        ]
        self.events: list[Event] = []
        self.pool: Pool[Any] = Pool(
            *(self.clock, protocol),
            policy=Policy(**({"limit": 1, "idle_jitter": 0.0, "lifetime_jitter": 0.0} | policy)),
            observers=[self.events.append],
            rng=Half(),
        )
        self._bystander = Pool(self.clock, Protocol)

    def ask(self, timeout: float | None = None) -> Deferred[Lease[Any]]:
        asked = self.pool.connect("us", self.one, timeout=timeout)
        asked.addErrback(lambda failure: failure.type)
        return asked

    def lease(self) -> Lease[Any]:
        return result_of(self.pool.connect("us", self.one))

    def look(self) -> None:
        """Use the other pool."""
        result_of(self._bystander.connect("us", Backend(FakeBackend(self.clock)))).release()

    @property
    def status(self) -> Status:
        return self.pool.status([self.one])[0]


Timed = Callable[[], tuple[World, float, Callable[[], Any]]]
"""Begins something in a world; gives that, the seconds it lasts, and whether it is over."""


def a_wait() -> Any:
    world = World(acquire_timeout=7.0)
    world.lease()
    asked = world.ask()
    return world, 7.0, lambda: asked.called


def a_wait_with_its_own_time() -> Any:
    world = World()
    world.lease()
    asked = world.ask(timeout=7.0)
    return world, 7.0, lambda: asked.called


def a_wait_for_a_group() -> Any:
    world = World(acquire_timeout=7.0)
    backends = [world.one, world.other]
    for each in backends:
        result_of(world.pool.connect("us", each))
    asked = world.pool.select("us", backends)
    asked.addErrback(lambda _: None)
    return world, 7.0, lambda: asked.called


def a_wait_for_a_list() -> Any:
    world = World(acquire_timeout=7.0)

    asked = world.pool.group(Silent()).connect("us")
    asked.addErrback(lambda _: None)
    return world, 7.0, lambda: asked.called


def a_connect() -> Any:
    world = World(connect_timeout=3.0)
    world.fakes[0].never_answer()
    asked = world.ask()
    return world, 3.0, lambda: asked.called


def a_prepare() -> Any:
    world = World(prepare=lambda protocol: never(), prepare_timeout=3.0)
    asked = world.ask()
    return world, 3.0, lambda: asked.called


def a_check() -> Any:
    world = World(check=never, check_after=1.0, check_timeout=3.0)
    world.lease().release()
    world.clock.advance(1)
    asked = world.ask()
    assert not asked.called
    return world, 3.0, lambda: asked.called


def a_reset() -> Any:
    world = World(reset=never, reset_timeout=3.0)
    world.lease().release()
    asked = world.ask()
    return world, 3.0, lambda: asked.called


def a_close() -> Any:
    world = World(close_timeout=3.0)
    lease = world.lease()
    (peer,) = world.fakes[0].connections
    lease.protocol.transport.loseConnection = lambda: None
    lease.finished()
    return world, 3.0, lambda: not peer.open


def a_closing_of_the_pool() -> Any:
    world = World()
    world.lease()
    closed = world.pool.close(3.0)
    return world, 3.0, lambda: closed.called


def an_idle_timeout() -> Any:
    world = World(idle_timeout=20.0)
    world.lease().release()
    return world, 20.0, lambda: not world.fakes[0].connections


def a_lifetime() -> Any:
    world = World(lifetime=20.0, idle_timeout=None)
    world.lease().release()
    (peer,) = world.fakes[0].connections
    return world, 20.0, lambda: not peer.open


def a_manager_without_connections() -> Any:
    world = World(manager_idle_timeout=20.0)
    world.lease().finished()
    world.clock.advance(0)
    assert world.pool.manager(world.one)
    return world, 20.0, lambda: world.pool.manager(world.one) is None


def a_lease_that_is_held() -> Any:
    world = World(leak_after=20.0)
    lease = world.lease()
    return world, 20.0, lambda: lease.held and [e for e in world.events if type(e) is Overdue]


def a_hold_limit() -> Any:
    world = World(hold_limit=20.0, leak_after=None)
    lease = world.lease()
    return world, 20.0, lambda: not lease.held


def an_idle_time_before_a_keepalive() -> Any:
    checked: list[int] = []
    world = World(check=lambda protocol: checked.append(1), keepalive=20.0, idle_timeout=None)
    world.lease().release()
    return world, 20.0, lambda: checked


def a_run() -> Any:
    world = World()
    ran = world.pool.run("us", world.one, never, timeout=7.0)
    ran.addErrback(lambda _: None)
    return world, 7.0, lambda: ran.called


def a_wait_for_a_new_connection() -> Any:
    world = World(acquire_timeout=7.0)
    world.lease()
    asked = world.pool.connect("us", world.one, fresh=True)
    asked.addErrback(lambda _: None)
    return world, 7.0, lambda: asked.called


def a_recovery() -> Any:
    world = World(ejection=Ejection(failures=1, first=60.0))
    world.fakes[0].refuse()
    world.ask()
    for _ in range(2):
        world.pool.select("us", world.backends).addCallback(Lease.release)
    return world, 1.0, lambda: world.fakes[0].attempts == 2


def a_back_off() -> Any:
    world = World(fail_fast=False, acquire_timeout=None)
    world.fakes[0].refuse()
    asked = world.ask()
    return world, 0.25, lambda: asked.called


def a_back_off_that_fails_at_once() -> Any:
    world = World()
    world.fakes[0].refuse()
    world.ask()
    return world, 0.25, lambda: isinstance(result_of(world.ask()), Lease)


def an_ejection() -> Any:
    world = World(ejection=Ejection(failures=1, first=5.0))
    world.lease().finished(failed=True)
    assert world.status.state.name == "EJECTED"
    return world, 5.0, lambda: world.status.state.name != "EJECTED"


def a_probe() -> Any:
    world = World(
        ejection=Ejection(failures=1, first=5.0, most=5.0), probe=never, probe_timeout=3.0
    )
    world.lease().finished(failed=True)
    world.clock.pump([0.1] * 50)
    (peer,) = world.fakes[0].connections
    return world, 3.0, lambda: not peer.open


def a_slow_start() -> Any:
    world = World(ejection=Ejection(failures=1, slow_start=10.0))
    world.lease().finished(failed=True)
    world.pool.admit(world.one)
    assert world.status.ramp < 1
    return world, 10.0, lambda: world.status.ramp == 1


def a_slow_connect() -> Any:
    world = World()
    for fake in world.fakes:
        fake.never_answer()
    world.pool.select("us", [world.one, world.other]).addErrback(lambda _: None)
    return world, 0.25, lambda: all(fake.attempts for fake in world.fakes)


def an_idle_time_without_a_check() -> Any:
    world = World(check=never, check_after=3.0)
    world.lease().release()
    return world, 3.0, lambda: not world.ask().called


def a_kept_name() -> Any:
    world = World(idle_timeout=None)
    resolver = world.clock.nameResolver
    resolver.answers = [ONE]
    endpoint = NamedEndpoint(world.clock, "a.test", 80)
    endpoint.addresses.get()
    return world, 15.0, lambda: endpoint.addresses.get() and len(resolver.asked) == 2


def an_address_that_does_not_answer() -> Any:
    world = World()
    world.clock.nameResolver.answers = [ONE, "10.0.0.2"]
    NamedEndpoint(world.clock, "a.test", 80).connect(Any).addErrback(lambda _: None)
    return world, 0.25, lambda: len(world.clock.tcpClients) == 2


def an_estimate() -> Any:
    world = World()
    balancer = peak_ewma(world.clock, decay=1.0)
    balancer.observe(world.one, 100.0)
    balancer.observe(world.other, 1e-6)

    def is_forgotten() -> bool:
        statuses = world.pool.status([world.one, world.other])
        return any(balancer(statuses).backend is world.one for _ in range(20))

    return world, 10.1, is_forgotten


@implementer(ISource)
class Silent:
    """A source that never tells a list."""

    def start(self, listener: object) -> None: ...
    def stop(self) -> None: ...


class Records:
    """A resolver whose lookups are never answered."""

    def __init__(self) -> None:
        self.asked = 0

    def lookupAddress(self, name: str, timeouts: object) -> Deferred[Any]:
        self.asked += 1
        return Deferred()


def a_lookup() -> Any:
    world, resolver = World(), Records()
    source: Any = DNSSource(world.clock, "a.test", 80, kind="ipv4", resolver=resolver)  # type: ignore[arg-type]
    source.start(lambda backends: None)
    return world, 62.0, lambda: resolver.asked > 1


def a_look_at_a_file() -> Any:
    world = World()
    source: Any = FileSource(world.clock, "/nowhere/backends.toml", poll=10.0)
    seen: list[int] = []
    source._look = lambda: seen.append(1)
    source.start(lambda backends: None)
    return world, 10.0, lambda: seen


def a_step() -> Any:
    world = World()
    outcome = Step(world.clock, "it", 3.0).begin(never)
    outcome.addErrback(lambda _: None)
    return world, 3.0, lambda: outcome.called


def an_alarm() -> Any:
    world = World()
    rings: list[int] = []
    Alarm(world.clock, lambda: rings.append(1)).set(world.clock.seconds() + 3)
    return world, 3.0, lambda: rings


@pytest.mark.parametrize(
    "timed",
    [
        a_wait,
        a_wait_with_its_own_time,
        a_wait_for_a_group,
        a_wait_for_a_list,
        a_connect,
        a_prepare,
        a_check,
        a_reset,
        a_close,
        a_closing_of_the_pool,
        an_idle_timeout,
        a_lifetime,
        a_manager_without_connections,
        a_lease_that_is_held,
        a_hold_limit,
        an_idle_time_before_a_keepalive,
        a_run,
        a_wait_for_a_new_connection,
        a_recovery,
        a_back_off,
        a_back_off_that_fails_at_once,
        an_ejection,
        a_probe,
        a_slow_start,
        a_slow_connect,
        an_idle_time_without_a_check,
        a_kept_name,
        an_address_that_does_not_answer,
        an_estimate,
        a_lookup,
        a_look_at_a_file,
        a_step,
        an_alarm,
    ],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("times", [1, 3], ids=["once", "three times"])
def test_what_lasts_a_time_lasts_no_longer_when_the_clock_is_set_back(
    timed: Timed, times: int, logged_failures: Any
) -> None:
    world, seconds, is_over = timed()
    world.look()
    for _ in range(times):
        world.clock.rightNow -= HOUR
        world.look()
    for _ in range(200):
        world.clock.advance(seconds / 200)
    world.clock.advance(0.01)
    assert is_over()


def test_a_held_time_that_is_told_is_never_negative() -> None:
    world = World()
    lease = world.lease()
    world.clock.rightNow -= HOUR
    world.pool.connect("us", world.one).addErrback(lambda _: None)
    lease.release()
    told = [
        value
        for event in world.events
        for name in ("held", "waited")
        if (value := getattr(event, name, None)) is not None
    ]
    assert told
    assert min(told) >= 0
