"""The soak: hundreds of callers on one pool for minutes, while their redis-server has trouble.

By hand C{python -m tests.net.soak --seconds 600 --seed 7}; the short form is C{test_soak.py}. It
promises that no reply reaches the wrong caller, that no slot and no count is lost, that there are
never more connections than the limit, and that memory and descriptors stay as they are.
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.logger import LogEvent, globalLogPublisher
from txredisapi import RedisProtocol

from kolus import Backend, Policy, Pool
from kolus.backoff import Backoff
from tests.net import servers
from tests.net.asking import turn, until
from tests.net.by_hand import run_by_hand, say
from tests.net.redis_calls import answers, choose_database
from tests.net.servers import Server
from tests.net.soak_callers import Caller, Crowd
from tests.net.soak_gauge import Reading, descriptors, growth, read_gauge
from tests.net.soak_kinds import KINDS
from tests.net.soak_storm import Storm
from tests.net.soak_watch import CountingEndpoint, Watch
from tests.rigs.patience import PATIENCE

__all__ = ["Plan", "Soak"]

BESIDE = 4
"""Descriptors beside those of the pool: the server's three pipes, and one question to it."""
TO_END = PATIENCE
"""Seconds that callers have to end their turns, once the server is well."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The length of the run, the number of callers, and the seed."""

    seconds: float = 600.0
    callers: int = 200
    limit: int = 10
    seed: int = 1

    def policy(self) -> Policy:
        """Everything switched on, with times so short that all of them pass in a storm."""
        return Policy(
            limit=self.limit,
            acquire_timeout=2.0,
            connect_timeout=1.0,
            prepare=choose_database,
            prepare_timeout=1.0,
            check=answers,
            check_after=0.2,
            check_timeout=0.5,
            reset=answers,
            reset_timeout=0.5,
            idle_timeout=1.0,
            lifetime=5.0,
            manager_idle_timeout=0.5,
            close_timeout=1.0,
            backoff=Backoff(first=0.02, most=0.3),
        )


class Soak:
    """One run.

    @ivar violations: what must not happen and did; empty after a run that succeeded.
    """

    def __init__(
        self, reactor: Any, binary: str, folder: Path, plan: Plan, write: Callable[[str], object]
    ) -> None:
        """
        @param binary: the redis-server's.
        @param folder: where it runs.
        @param write: prints lines.
        """
        rng = random.Random(plan.seed)
        self._reactor = reactor
        self._plan = plan
        self._write = write
        self._server: Server = servers.redis(reactor, binary, folder)
        # Not by way of txredisapi's factory, which keeps every connection that it ever built.
        self._pool: Pool[Any] = Pool(
            reactor, RedisProtocol, policy=plan.policy(), rng=random.Random(rng.random())
        )
        self._watch = watch = Watch(reactor, self._server, plan.limit, self._violated)
        # Not from the string: that endpoint's first step is a turn of the reactor later.
        tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", self._server.port)
        self._backend = Backend(CountingEndpoint(tcp, watch.connect_begins), name="redis")
        self._crowd = crowd = Crowd(reactor, self._pool, self._backend)
        self._storm = Storm(reactor, self._server, crowd, watch, random.Random(rng.random()))
        self._rng = rng
        self._readings: list[Reading] = []
        self._rests: list[Reading] = []
        self._descriptors = 0
        self.violations = crowd.violations

    def _violated(self, what: str) -> None:
        self._crowd.violated(what)

    async def run(self) -> None:
        """Run it all, and write a summary."""
        await turn(self._reactor)  # a reactor that has only just started opens some descriptors
        with failures_told_to(self._crowd.violated):
            self._descriptors = descriptors()
            self._watch.begin()
            try:
                await self._server.start()
                await self._weather()
                await self._recover()
            except Exception:
                self._crowd.violated(traceback.format_exc())
            finally:
                await self._close(0.0)
                await self._server.kill()
            left = descriptors() - self._descriptors
            if left:
                self._crowd.violated(f"{left} descriptors are left open")
        self._judge()
        self._summarize()

    async def _weather(self) -> None:
        """Twice the storm, with its callers, a second of peace at the end, and a rest."""
        every = min(10.0, self._plan.seconds / 40)
        report = LoopingCall(self._report, self._reactor.seconds())
        report.clock = self._reactor
        reporting = report.start(every, now=False)
        try:
            for _ in range(2):
                self._crowd.start(KINDS, self._plan.callers, self._rng)
                try:
                    await self._storm.rage(self._plan.seconds / 2)
                    await deferLater(self._reactor, 1.0)
                finally:
                    await self._crowd.stop(TO_END)
                await self._rest()
        finally:
            report.stop()
            await reporting

    async def _rest(self) -> None:
        """Let everything close that is open, and read the gauge."""
        read_gauge()  # which collects the leases that lie in cycles
        await until(self._reactor, lambda: self._pool.manager(self._backend) is None)
        self._rests.append(read_gauge())

    def _report(self, began: float) -> None:
        self._readings.append(reading := read_gauge())
        crowd = self._crowd
        self._write(
            f"{self._reactor.seconds() - began:6.1f} s  {crowd.leases} leases, "
            f"{crowd.replies} replies, {self._watch.seen} connections seen, {reading}; "
            f"{told(crowd.failures)}"
        )

    async def _recover(self) -> None:
        """The pool is whole: it gives C{limit} leases at once, of connections that all work."""
        crowd, plan, pool = self._crowd, self._plan, self._pool
        caller = Caller(crowd, "last", self._rng)
        read_gauge()  # which collects the leases that lie in cycles
        await until(self._reactor, lambda: pool.counters().forgotten >= crowd.forgotten)
        asked = [Deferred.fromCoroutine(caller.lease(TO_END)) for _ in range(plan.limit)]
        leases = await gatherResults(asked)
        for lease in leases:
            await caller.talk(lease.protocol)
        await self._watch.sees_exactly(
            {lease.protocol.transport.getHost().port for lease in leases}
        )
        if caller.lease_at_once() is not None:
            crowd.violated(f"lease number {plan.limit + 1} was given")
        for lease in leases:
            lease.release()
        await until(self._reactor, self._is_at_rest)
        await self._close(TO_END)
        await self._watch.sees_exactly(set())

    async def _close(self, grace: float) -> None:
        try:
            await self._pool.close(grace).addTimeout(grace + TO_END, self._reactor)
        except TimeoutError:
            self._crowd.violated(f"closing does not end: {self._pool.status()}")

    def _is_at_rest(self) -> bool:
        """Whether all slots are with idle connections or unused."""
        (status,) = self._pool.status([self._backend])
        counters = self._pool.counters()
        whole = (status.idle or 0) + (status.unused or 0) == self._plan.limit
        return whole and counters.connects - counters.closes == status.idle

    def _judge(self) -> None:
        """Compare the pool's counts with one another and with the callers', and look for growth."""
        crowd, counters = self._crowd, self._pool.counters()
        settled = counters.releases + counters.finishes + counters.forgotten
        rejections = crowd.failures["PoolFull"]
        for what, count, expected in (
            ("leases that were settled", settled, counters.leases),
            ("connections that were closed", counters.closes, counters.connects),
            ("leases that were given", counters.leases, crowd.leases),
            ("leases that were forgotten", counters.forgotten, crowd.forgotten),
            ("requests that waited in vain", counters.timeouts, crowd.failures["LeaseTimeout"]),
            ("requests that were refused", counters.rejections, rejections),
            ("requests that waited past their deadline", crowd.late, 0),
        ):
            if count != expected:
                crowd.violated(f"{what}: {count}, not {expected}")
        for each in growth(self._readings, self._rests):
            if not each.allowed:
                crowd.violated(str(each))
        if self._most_descriptors() > self._descriptors + self._plan.limit + BESIDE:
            crowd.violated(f"{self._most_descriptors()} descriptors at once")
        for kind in KINDS:
            if kind.__name__ not in crowd.turns:
                crowd.violated(f"nobody was {kind.__name__}: the run was too short")

    def _most_descriptors(self) -> int:
        return max((each.descriptors for each in self._readings), default=0)

    def _summarize(self) -> None:
        crowd, watch = self._crowd, self._watch
        lines = [
            f"seed {self._plan.seed}: {self._plan.callers} callers on {self._plan.limit} "
            f"connections for {self._plan.seconds:g} s",
            f"turns: {told(crowd.turns)}",
            f"torments: {told(self._storm.suffered)}",
            f"replies: {crowd.replies}, each with its token",
            f"failures: {told(crowd.failures)}",
            f"the pool: {self._pool.counters()}",
            f"longest wait for a lease: {crowd.longest_wait:.2f} s",
            f"connections: {watch.counts} counts, most open {watch.most_open}, most seen by the "
            f"server {watch.most_seen} ({watch.over} times more than the limit, until it read "
            "that they were closed)",
            *map(str, growth(self._readings, self._rests)),
            f"descriptors: {self._descriptors} before, {self._most_descriptors()} at the most",
            f"violations: {len(crowd.violations)}",
            *crowd.violations,
        ]
        self._write("\n".join(lines))


def told(counts: Mapping[str, int]) -> str:
    """Counts in words, the largest first."""
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


@contextmanager
def failures_told_to(violated: Callable[[str], object]) -> Iterator[None]:
    """Whatever is logged as a failure meanwhile is a violation."""

    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            violated(f"logged: {failure.getTraceback()}")

    publisher: Any = globalLogPublisher
    publisher.addObserver(observe)
    try:
        yield
    finally:
        publisher.removeObserver(observe)


def parse(arguments: list[str]) -> Plan:
    """The plan that a command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.net.soak",
        description="Many callers on one pool, while their redis-server is tormented.",
        epilog="The exit status is 1 if anything was violated.",
    )
    plan = Plan()
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of storm")
    parser.add_argument("--callers", type=int, default=plan.callers)
    parser.add_argument("--limit", type=int, default=plan.limit, help="most connections")
    parser.add_argument("--seed", type=int, default=plan.seed, help="of all chance")
    return Plan(**vars(parser.parse_args(arguments)))


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """Run it from a command line; the exit status is 1 if anything was violated."""
    plan = parse(list(arguments))
    return run_by_hand(lambda binary, folder: Soak(reactor, binary, folder, plan, say))


if __name__ == "__main__":
    react(main, sys.argv[1:])
