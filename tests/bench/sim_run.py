"""One run of the simulation: clients, backends, Poisson arrivals, an event, and the outcome."""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from kolus import Backend, Policy
from kolus.balance import (
    Balancer,
    Ring,
    consistent,
    fill_first,
    idle_first,
    least_leased,
    peak_ewma,
    pick_two,
    prefer_zone,
    round_robin,
)
from tests.bench.sim_backend import SimBackend
from tests.bench.sim_client import Client, Request, Source
from tests.bench.sim_clock import SimClock

__all__ = ["BALANCERS", "EVENTS", "Case", "Outcome", "Setting", "run"]

ZONES = 4
KEYS, ZIPF = 10_000, 0.5
"""The hottest key has a two hundredth of the requests."""
_SLOW = 10.0


@dataclass(frozen=True, slots=True)
class Setting:
    """How large a simulation is, and how busy."""

    clients: int
    backends: int
    requests: int
    utilisation: float
    limit: int
    workers: int = 2
    """How many requests a backend serves at a time."""
    seconds: float = 30.0
    """How long requests arrive; the first third is not counted, the events begin after it."""

    @property
    def warm(self) -> float:
        return self.seconds / 3

    @property
    def service(self) -> float:
        """Seconds that a request takes in the mean."""
        rate = self.requests / self.seconds
        return self.utilisation * self.backends * self.workers / rate

    @property
    def few(self) -> int:
        """A hundredth of the backends."""
        return max(1, self.backends // 100)


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    setting: Setting
    balancer: str
    event: str = "steady"
    bound: bool = False
    """Whether a request waits at the balancer's choice alone."""
    in_step: bool = False
    """Whether all clients have the same list in the same order; else each has an order of its
    own, but for C{consistent}, to which the order is nothing."""

    def __str__(self) -> str:
        extra = [", choose, then queue"] * self.bound + [", lists in one order"] * self.in_step
        return f"{self.setting.clients} clients, {self.event}, {self.balancer}{''.join(extra)}"


@dataclass
class Outcome:
    """What came of one run, of the requests after the warm-up."""

    requests: int = 0
    waits: list[float] = field(default_factory=list)
    """From request to lease, in seconds, of those that got one, in order."""
    latencies: list[float] = field(default_factory=list)
    """From request to release, of those that were answered, in order."""
    failures: Counter[str] = field(default_factory=Counter)
    """How many were not answered, by why; those that the event met under way are among them."""
    mean_load: float = 0.0
    """How many leases were out at one backend in the mean."""
    most_load: int = 0
    """How many were at most, at any backend at any time."""
    share: float | None = None
    """How much those backends that the event is about were given, of their fair share."""
    at_choice: float = 0.0
    """Which part of the leases was of the backend that the balancer had chosen."""
    connections: int = 0
    """How many were open at the end."""
    defects: list[str] = field(default_factory=list)
    """What kolus ought not to have done."""


# Balancers

Make = Callable[[SimClock, Random, str], Balancer]

BALANCERS: dict[str, Make | None] = {
    "fill_first": lambda clock, rng, zone: fill_first,
    "idle_first": lambda clock, rng, zone: idle_first,
    "least_leased": lambda clock, rng, zone: least_leased,
    "round_robin": lambda clock, rng, zone: round_robin(rng),
    "pick_two": lambda clock, rng, zone: pick_two(rng),
    "peak_ewma": lambda clock, rng, zone: peak_ewma(clock, rng),
    "consistent": None,  # one for each request
    "prefer_zone": lambda clock, rng, zone: prefer_zone(zone, pick_two(rng)),
}
"""What makes each client's balancer."""

# Events


class World:
    """Everything of one run."""

    def __init__(self, case: Case, seed: int) -> None:
        setting = self.setting = case.setting
        self.case = case
        self.clock = SimClock()
        # The same arrivals, sizes and speeds for every balancer; kolus' own chance apart.
        self.rng = Random(f"{seed}, world")
        self.backends: list[SimBackend] = []
        self.known: list[Backend] = []
        for _ in range(setting.backends):
            self.add_backend()
        self.affected = self.rng.sample(self.backends, setting.few)
        ring, make = Ring(), BALANCERS[case.balancer]
        everything = tuple(self.known)  # one tuple, so that one ring is enough
        self.clients = []
        for number in range(setting.clients):
            rng = Random(f"{seed}, client {number}")
            same = case.in_step or make is None
            # Whom a backend refuses the group's own balancer sends on, whichever chose for it.
            policy = Policy(limit=setting.limit, balancer=pick_two(rng))
            source = Source(everything if same else tuple(rng.sample(everything, len(everything))))
            own = None if make is None else make(self.clock, rng, f"zone {number % ZONES}")
            self.clients.append(
                Client(
                    *(self.clock, policy, source, own),
                    choose=lambda key: consistent(key, ring),
                    rng=rng,
                    bound=case.bound,
                )
            )

    def add_backend(self) -> SimBackend:
        number = len(self.backends)
        # From two thirds of the mean time to four thirds.
        seconds = self.setting.service * (2 + 2 * self.rng.random()) / 3
        backend = SimBackend(self.clock, f"b{number}", seconds, self.setting.workers)
        self.backends.append(backend)
        zone = f"zone {number % ZONES}"
        self.known.append(Backend(backend, name=backend.name, zone=zone))
        return backend


def _slow(world: World) -> None:
    for backend in world.affected:
        backend.slowness = _SLOW


def _fail(world: World) -> None:
    """A tenth of the backends fails, and stays so."""
    world.affected = world.rng.sample(world.backends, max(1, len(world.backends) // 10))
    for backend in world.affected:
        backend.fail()


def _roll(world: World) -> None:
    """One after the other goes away and comes back."""
    setting, clock = world.setting, world.clock
    time = (setting.seconds - setting.warm) / len(world.affected)
    for number, backend in enumerate(world.affected):
        clock.call_at(setting.warm + number * time, backend.fail)
        clock.call_at(setting.warm + (number + 0.9) * time, backend.recover)


def _join(world: World) -> None:
    """New backends join, which nobody has a connection to."""
    world.affected = [world.add_backend() for _ in range(world.setting.few)]
    joined = tuple(world.known[-len(world.affected) :])
    everything = {client.source.backends: None for client in world.clients}
    for before in everything:
        after = before + joined  # type: ignore[operator]
        for client in world.clients:
            if client.source.backends is before:
                client.source.tell(after)


EVENTS: dict[str, Callable[[World], object]] = {
    "steady": lambda world: None,
    "slow backends": _slow,
    "step failure": _fail,
    "rolling restart": _roll,
    "cold joiners": _join,
}


# The run


def run(case: Case, seed: int) -> Outcome:
    """Simulate one case; the same for the same seed."""
    outcome = Outcome()
    with _watched(outcome.defects):
        world = World(case, seed)
        clock, setting = world.clock, case.setting
        requests = arrive(world, Random(f"{seed}, arrivals"))
        clock.run_until(setting.warm)
        EVENTS[case.event](world)
        for each in world.backends:
            each.restart()
        clock.run_until(setting.seconds)
        outcome.connections = sum([len(each.wires) for each in world.backends])
        _measure_load(world, outcome)
        while clock.rightNow < 1e6 and any(not each.settled for each in requests):
            clock.advance(10.0)
        _measure(requests, setting, outcome)
        _end(world, requests, outcome.defects)
    return outcome


def arrive(world: World, rng: Random) -> list[Request]:
    """Let requests arrive, as a Poisson process, each at one of the clients."""
    setting, clock = world.setting, world.clock
    rate = setting.requests / setting.seconds
    zipf = list(accumulate([rank**-ZIPF for rank in range(1, KEYS + 1)]))
    requests: list[Request] = []

    def next_one() -> None:
        client = world.clients[int(rng.random() * len(world.clients))]
        key = bisect_left(zipf, rng.random() * zipf[-1])
        request = Request(client, str(key), rng.expovariate(1.0))
        requests.append(request)
        client.ask(request)
        time = clock.rightNow + rng.expovariate(rate)
        if time < setting.seconds:
            clock.call_at(time, next_one)

    clock.call_at(rng.expovariate(rate), next_one)
    return requests


def _measure_load(world: World, outcome: Outcome) -> None:
    setting, backends = world.setting, world.backends
    time = setting.seconds - setting.warm
    outcome.mean_load = sum([each.load() for each in backends]) / time / len(backends)
    outcome.most_load = max([each.peak for each in backends])
    if world.case.event != "steady":
        given = sum([each.served for each in world.affected])
        fair = sum([each.served for each in backends]) * len(world.affected) / len(backends)
        outcome.share = given / fair


def _measure(requests: Sequence[Request], setting: Setting, outcome: Outcome) -> None:
    counted = [each for each in requests if each.asked_at >= setting.warm]
    leased = [each for each in counted if each.wait is not None]
    outcome.requests = len(counted)
    outcome.waits = sorted([each.wait for each in leased if each.wait is not None])
    outcome.latencies = sorted([each.latency for each in counted if each.latency is not None])
    outcome.failures = Counter([each.error for each in requests if each.error is not None])
    outcome.at_choice = sum([each.at_choice for each in leased]) / max(1, len(leased))


def _end(world: World, requests: Sequence[Request], defects: list[str]) -> None:
    """Close everything, and see whether anything is left."""
    unsettled = sum([each.settled != 1 for each in requests])
    if unsettled:
        defects.append(f"{unsettled} requests did not come to an end once")
    most = max([each.most_open for each in world.clients])
    if most > world.setting.limit:
        defects.append(f"{most} connections, with a limit of {world.setting.limit}")
    for client in world.clients:
        waiting = client.group.status().waiting
        if waiting:
            defects.append(f"{waiting} requests still wait")
        client.pool.close(0.0)
    world.clock.advance(1.0)
    opened = sum([len(each.wires) for each in world.backends])
    if opened:
        defects.append(f"{opened} connections are open after all is closed")
    left = [each for each in world.clock.getDelayedCalls() if each.active()]
    if left:
        defects.append(f"{len(left)} timers are left after all is closed")


@contextmanager
def _watched(defects: list[str]) -> Iterator[None]:
    """What kolus logs as a failure is one; and the collector of garbage is off meanwhile."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure: Any = event.get("log_failure")
        if failure is not None:
            defects.append(f"logged: {failure.value!r}")

    globalLogPublisher.addObserver(observe)
    gc.disable()
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
        gc.enable()
        gc.collect()
