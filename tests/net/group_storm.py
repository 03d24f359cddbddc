"""The group storm: a hundred callers on three redis-servers, which are lost one after the other.

By hand C{python -m tests.net.group_storm --seconds 60 --seed N}; the short form is
C{test_group_storm.py}. It promises that nobody waits past his deadline, that no more requests fail
than were out on the server that was lost (and its probes), that each reply reaches its caller, that
a server that is back gets requests again, and that no connection and no count is lost.
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater, react
from txredisapi import ConnectionError as RedisConnectionError
from txredisapi import RedisProtocol

from kolus import Backend, Group, KolusError, Pool
from kolus.events import Admitted, Ejected, Event, ProbeDue
from kolus.status import State
from tests.net import servers
from tests.net.asking import LATE, turn, until
from tests.net.by_hand import run_by_hand, say
from tests.net.deadline import Deadline
from tests.net.group_storm_ledger import Ledger
from tests.net.group_storm_plan import DEADLINE, Plan
from tests.net.servers import Server
from tests.net.soak import failures_told_to, told
from tests.net.soak_gauge import descriptors

__all__ = ["GroupStorm", "Plan"]

IDENT = "storm"
NAMES = "abc"
PATIENCE = 1.0
"""Seconds that a caller waits for a reply. What came while this process was stalled is in time."""
THINKING = 0.03
"""Seconds, on average, from one turn of a caller to its next."""
RETURN = 150
"""Looks, a tenth of a second apart or more, until a server that is well again must have got
requests."""
ENOUGH = 20
"""So many leases show that it gets requests again."""


class GroupStorm:
    """One run.

    @ivar violations: what must not happen and did; empty after a run that succeeded.
    """

    def __init__(
        self, reactor: Any, binary: str, folder: Path, plan: Plan, write: Callable[[str], object]
    ) -> None:
        """
        @param binary: the redis-server's.
        @param folder: where they run.
        @param write: prints lines.
        """
        self._rng = rng = random.Random(plan.seed)
        self._reactor = reactor
        self._plan = plan
        self._write = write
        self._ledger = ledger = Ledger()
        self._servers: dict[str, Server] = {}
        for name in NAMES:
            (own := folder / name).mkdir()
            self._servers[name] = servers.redis(reactor, binary, own)
        self._backends = [Backend(each.endpoint, name=name) for name, each in self._servers.items()]
        self._pool: Pool[Any] = Pool(
            reactor,
            RedisProtocol,
            policy=plan.policy(),
            observers=[ledger.observe],
            rng=random.Random(rng.random()),
        )
        self._group: Group[Any] = self._pool.group(self._backends, name="storm")
        self._over = False
        self._running = 0
        self._samples: list[tuple[int, ...]] = []
        self._torments: list[str] = []
        self.violations = ledger.violations

    async def run(self) -> None:
        """Run it all, and write a summary."""
        reactor = self._reactor
        await turn(reactor)  # a reactor that has only just started opens some descriptors
        before = descriptors()
        with failures_told_to(self._ledger.violated):
            try:
                await gatherResults([Deferred.fromCoroutine(each.start()) for each in self._each()])
                await self._weather()
                await self._recover()
            except Exception:
                self._ledger.violated(traceback.format_exc())
            finally:
                self._over = True
                await self._pool.close(0)
                for each in self._each():
                    await each.kill()
                await turn(reactor)
        if descriptors() != before:
            self._ledger.violated(f"{descriptors() - before} descriptors are left open")
        if self._ledger.late:
            self._ledger.violated(f"{self._ledger.late} waited past their deadline")
        self._summarize()

    def _each(self) -> list[Server]:
        return list(self._servers.values())

    # The callers

    async def _call(self, name: str, rng: random.Random) -> None:
        self._running += 1
        try:
            number = 0
            while not self._over:
                number += 1
                await self._ask(f"{name}-{number}")
                await deferLater(self._reactor, rng.expovariate(1 / THINKING))
        except Exception:
            self._ledger.violated(f"{name}: {traceback.format_exc()}")
        finally:
            self._running -= 1

    async def _ask(self, token: str) -> None:
        ledger, reactor = self._ledger, self._reactor
        began = reactor.seconds()
        try:
            lease = await self._group.connect(IDENT)
        except KolusError as error:
            ledger.unserved[type(error).__name__] += 1
            return
        finally:
            waited = reactor.seconds() - began
            ledger.longest_wait = max(ledger.longest_wait, waited)
            ledger.late += waited > DEADLINE + LATE
        name = str(lease.backend)
        ledger.leases[name] += 1
        reply = lease.protocol.execute_command("ECHO", token)
        try:
            with Deadline(reactor, PATIENCE, reply.cancel):
                answer = await reply
        except (RedisConnectionError, CancelledError):
            ledger.failures[name] += 1
            lease.finished(failed=True)
            return
        if answer != token:
            ledger.violated(f"asked for {token} and got {answer!r:.60}")
        ledger.replies += 1
        lease.release()

    # The torments

    async def _weather(self) -> None:
        reactor, rng = self._reactor, self._rng
        for number in range(self._plan.callers):
            caller = self._call(f"caller{number}", random.Random(rng.random()))
            Deferred.fromCoroutine(caller)
        sampling = LoopingCall(self._sample)
        sampling.clock = reactor
        sampling.start(1.0)
        try:
            await self._all_served("at first")
            end_at = reactor.seconds() + self._plan.seconds
            while True:
                for torment, name in zip(
                    (self._kill, self._freeze, self._restart),
                    rng.sample(NAMES, len(NAMES)),
                    strict=True,
                ):
                    await self._torment(torment, name)
                if reactor.seconds() >= end_at:
                    break
                await self._tempest()
        finally:
            sampling.stop()
            self._over = True
            await until(reactor, lambda: not self._running)

    async def _torment(self, torment: Callable[[str], Coroutine[Any, Any, int]], name: str) -> None:
        """Lose one server, see who suffers, and see it get requests again."""
        ledger, reactor = self._ledger, self._reactor
        failures, events = ledger.failures.copy(), ledger.events.copy()
        unserved, began = ledger.unserved.copy(), reactor.seconds()
        allowed = await torment(name)
        away = reactor.seconds() - began
        what = f"{torment.__name__.strip('_')} {name}"
        back = await self._all_served(what)
        await deferLater(reactor, PATIENCE)
        probes = ledger.events[name, ProbeDue] - events[name, ProbeDue]
        ejections = ledger.events[name, Ejected] - events[name, Ejected]
        lost = ledger.failures - failures
        if lost[name] > allowed + probes:
            ledger.violated(f"{what}: {lost[name]} failed, not {allowed} and {probes} probes")
        if lost.total() > lost[name]:
            ledger.violated(f"{what}: requests failed elsewhere: {told(lost)}")
        if ledger.unserved != unserved:
            ledger.violated(f"{what}: got no lease: {told(ledger.unserved - unserved)}")
        self._torments.append(
            f"{what}: away {away:.1f} s, {lost[name]} failed, {ejections} ejections, "
            f"{probes} probes, requests again after {back:.1f} s"
        )

    async def _tempest(self) -> None:
        """Lose all servers at once. Any request may fail: there is panic."""
        ledger = self._ledger
        failures, unserved = ledger.failures.total(), ledger.unserved.total()
        places = self._rng.sample(NAMES, len(NAMES))
        all_at_once = [self._kill(places[0]), self._freeze(places[1]), self._restart(places[2])]
        await gatherResults([Deferred.fromCoroutine(each) for each in all_at_once])
        back = await self._all_served("all at once")
        await deferLater(self._reactor, PATIENCE)
        self._torments.append(
            f"all at once: {ledger.failures.total() - failures} failed, "
            f"{ledger.unserved.total() - unserved} got no lease, requests again after {back:.1f} s"
        )

    async def _kill(self, name: str) -> int:
        """
        @return: how many leases may have been out on it.
        """
        await self._servers[name].kill()
        await self._wait(1.0, 2.5)
        await self._servers[name].start()
        return self._plan.limit

    async def _freeze(self, name: str) -> int:
        """It accepts, and never answers. Until the fifth has failed, others may take the places
        of those that have."""
        self._servers[name].freeze()
        await self._wait(1.5, 3.0)
        self._servers[name].thaw()
        return self._plan.limit + 4

    async def _restart(self, name: str) -> int:
        restarts = self._rng.randint(3, 6)
        for _ in range(restarts):
            await self._servers[name].kill()
            await self._wait(0.0, 0.2)
            await self._servers[name].start()
            await self._wait(0.0, 0.4)
        return restarts * self._plan.limit

    async def _wait(self, least: float, most: float) -> None:
        await deferLater(self._reactor, self._rng.uniform(least, most))

    async def _all_served(self, what: str) -> float:
        """Wait until every backend is well and gets requests.

        @return: after how many seconds.
        """
        ledger, began = self._ledger, self._reactor.seconds()
        before = ledger.leases.copy()

        def all_get_requests() -> bool:
            well = all(each.state is State.OPEN for each in self._pool.status(self._backends))
            return well and all(ledger.leases[name] >= before[name] + ENOUGH for name in NAMES)

        for _ in range(RETURN):
            if all_get_requests():
                break
            await deferLater(self._reactor, 0.1)
        else:
            states = ", ".join(map(str, self._pool.status(self._backends)))
            ledger.violated(
                f"after {what} not all get requests in {RETURN} looks: "
                f"{told(ledger.leases - before)}; {states}"
            )
        return float(self._reactor.seconds() - began)

    # The end

    async def _recover(self) -> None:
        """Check that the pool is whole: exactly the limit can be leased at once."""
        pool, ledger = self._pool, self._ledger
        for backend in self._backends:
            pool.admit(backend)
        everything = len(NAMES) * self._plan.limit
        leases = await gatherResults(
            [self._group.connect(IDENT, timeout=10.0) for _ in range(everything)]
        )
        for number, lease in enumerate(leases):
            if await lease.protocol.execute_command("ECHO", f"last-{number}") != f"last-{number}":
                ledger.violated("the last replies are not in order")
        if self._group.try_connect(IDENT) is not None:
            ledger.violated(f"lease number {everything + 1} was given")
        for lease in leases:
            lease.release()
        await until(self._reactor, self._is_whole)
        counters = pool.counters()
        given = ledger.leases.total() + everything
        for what, count, expected in (
            ("leases that were given", counters.leases, given),
            ("leases that were settled", counters.releases + counters.finishes, given),
            ("leases that were forgotten", counters.forgotten, 0),
            ("requests that waited in vain", counters.timeouts, ledger.unserved["LeaseTimeout"]),
            ("requests that still wait", self._group.status().waiting, 0),
        ):
            if count != expected:
                ledger.violated(f"{what}: {count}, not {expected}")

    def _is_whole(self) -> bool:
        for status in self._pool.status(self._backends):
            counters = self._pool.counters(status.backend)
            idle, unused = status.idle or 0, status.unused or 0
            if idle + unused != status.limit or counters.connects - counters.closes != idle:
                return False
        return True

    def _sample(self) -> None:
        self._samples.append(tuple(self._ledger.leases[name] for name in NAMES))

    def _summarize(self) -> None:
        ledger, plan = self._ledger, self._plan
        every = max(1, len(self._samples) // 12)
        marks = self._samples[::every]
        shares = [
            "/".join(str(now - then) for then, now in zip(*pair, strict=True))
            for pair in pairwise(marks)
        ]
        kinds: dict[type[Event], int] = dict.fromkeys((Ejected, ProbeDue, Admitted), 0)
        for (_, kind), count in ledger.events.items():
            kinds[kind] += count
        lines = [
            *self._torments,
            f"leases at {'/'.join(NAMES)} in each {every} s: {' '.join(shares)}",
            f"seed {plan.seed}, {plan.callers} callers, {plan.limit} connections each: "
            f"{ledger.leases.total()} leases ({told(ledger.leases)}), {ledger.replies} replies, "
            f"each with its token; {ledger.failures.total()} failed ({told(ledger.failures)}); "
            f"got no lease: {told(ledger.unserved)}; {kinds[Ejected]} ejections, "
            f"{kinds[ProbeDue]} probes, {kinds[Admitted]} admissions, "
            f"{self._group.status().panicked} given in panic; longest wait for a lease "
            f"{ledger.longest_wait:.2f} s",
            f"violations: {len(ledger.violations)}",
            *ledger.violations,
        ]
        self._write("\n".join(lines))


def parse(arguments: list[str]) -> Plan:
    """The plan that a command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.net.group_storm",
        description="Many callers on a group of three redis-servers, which are lost in turn.",
        epilog="The exit status is 1 if anything was violated.",
    )
    plan = Plan()
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of storm, at least")
    parser.add_argument("--callers", type=int, default=plan.callers)
    parser.add_argument("--limit", type=int, default=plan.limit, help="most connections of each")
    parser.add_argument("--seed", type=int, default=plan.seed, help="of all chance")
    return Plan(**vars(parser.parse_args(arguments)))


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """Run it from a command line; the exit status is 1 if anything was violated."""
    plan = parse(list(arguments))
    return run_by_hand(lambda binary, folder: GroupStorm(reactor, binary, folder, plan, say))


if __name__ == "__main__":
    react(main, sys.argv[1:])
