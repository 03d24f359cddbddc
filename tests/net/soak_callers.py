"""The callers of the soak: what each can do with a lease, and the counts of all.

The state is in C{Crowd}: counts that only grow, and when the callers rest or stop. Callers change
the counts; the storm makes them rest.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.internet.task import deferLater
from txredisapi import ConnectionError as RedisConnectionError

from kolus import Backend, KolusError, Lease, Pool
from tests.net.asking import LATE

__all__ = ["IDENT", "Caller", "Crowd", "Kind", "Mischief"]

IDENT = "soak"
THINKING = 0.2
"""Seconds, on average, from one turn of a caller to its next."""
SIZES = (1, 30, 30, 30, 2_000, 70_000)
"""Of tokens: within one segment of TCP, and over several."""
MOST_TOLD = 20
"""Violations that are told one by one; a storm of the same one is no news."""


class Mischief(Exception):
    """What a caller raises while it holds a lease."""


EXPECTED = (KolusError, RedisConnectionError, CancelledError, TimeoutError, Mischief)
"""How a caller's turn may end; anything else is a violation."""


class Crowd:
    """The callers together.

    @ivar over: whether they are to stop after the turn they are in.
    @ivar quiet_until: they rest until then, on the reactor's clock.
    @ivar leases: how many they were given.
    @ivar forgotten: how many of these they forgot.
    @ivar replies: how many of their commands were answered, each with its own token.
    @ivar turns: how often each kind of caller had its turn.
    @ivar failures: how many turns ended with each kind of exception.
    @ivar longest_wait: the longest that anybody waited for a lease, in seconds.
    @ivar late: how many waited past their deadline.
    @ivar violations: what must not happen and did.
    """

    def __init__(self, reactor: Any, pool: Pool[Any], backend: Backend) -> None:
        self.reactor = reactor
        self.pool = pool
        self.backend = backend
        self.over = False
        self.quiet_until = 0.0
        self.leases = self.forgotten = self.replies = 0
        self.turns: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.longest_wait = 0.0
        self.late = 0
        self.violations: list[str] = []
        self._running: dict[str, Deferred[None]] = {}
        self._came = 0

    def violated(self, what: str) -> None:
        """Note that something happened that must not."""
        if len(self.violations) < MOST_TOLD:
            self.violations.append(what)

    def start(self, kinds: Sequence[Kind], callers: int, rng: random.Random) -> None:
        """Let callers begin, whose every turn is of a kind chosen at random."""
        self.over = False
        for _ in range(callers):
            self._came += 1
            caller = Caller(self, f"caller{self._came}", random.Random(rng.random()))
            self._running[caller.name] = running = Deferred.fromCoroutine(caller.run(kinds))
            running.addBoth(self._ended, caller.name)

    def _ended(self, _: object, name: str) -> None:
        del self._running[name]

    async def stop(self, seconds: float) -> None:
        """Let every caller end its turn; that one cannot is a violation."""
        self.over = True
        give_up_at = self.reactor.seconds() + seconds
        while self._running and self.reactor.seconds() < give_up_at:
            await deferLater(self.reactor, 0.01)
        if self._running:
            self.violated(f"{len(self._running)} callers wait for ever: {sorted(self._running)}")
            for each in list(self._running.values()):
                each.cancel()


class Caller:
    """One of the crowd: it takes one turn after the other."""

    def __init__(self, crowd: Crowd, name: str, rng: random.Random) -> None:
        self.crowd = crowd
        self.name = name
        self.rng = rng
        self._tokens = 0

    async def run(self, kinds: Sequence[Kind]) -> None:
        """Take turns until all is over."""
        crowd = self.crowd
        while not crowd.over:
            rest = crowd.quiet_until - crowd.reactor.seconds()
            await self.sleep(max(rest, 0.0) + self.rng.expovariate(1 / THINKING))
            kind = self.rng.choice(kinds)
            crowd.turns[kind.__name__] += 1
            try:
                await kind(self)
            except EXPECTED as error:
                crowd.failures[type(error).__name__] += 1
            except Exception:
                crowd.violated(f"{self.name}, {kind.__name__}: {traceback.format_exc()}")

    async def sleep(self, seconds: float) -> None:
        await deferLater(self.crowd.reactor, seconds)

    # Leases

    async def lease(
        self, timeout: float | None = None, owner: Deferred[None] | None = None
    ) -> Lease[Any]:
        """Wait for a lease."""
        crowd = self.crowd
        began = crowd.reactor.seconds()
        its = crowd.pool.policy.acquire_timeout if timeout is None else timeout
        try:
            lease = await crowd.pool.connect(IDENT, crowd.backend, timeout=timeout, owner=owner)
        finally:
            waited = crowd.reactor.seconds() - began
            crowd.longest_wait = max(crowd.longest_wait, waited)
            crowd.late += waited > (its or 0.0) + LATE
        return self._taken(lease)

    def lease_at_once(self) -> Lease[Any] | None:
        """Take a lease if there is one."""
        lease = self.crowd.pool.try_connect(IDENT, self.crowd.backend)
        return None if lease is None else self._taken(lease)

    def _taken(self, lease: Lease[Any]) -> Lease[Any]:
        # A protocol that is less careful than this one would give them to the wrong caller.
        owed = len(lease.protocol.replyQueue.waiting)
        if owed:
            self.crowd.violated(f"{self.name}: {owed} replies to others are still to come")
        self.crowd.leases += 1
        return lease

    # Commands

    def ask(self, protocol: Any) -> Deferred[None]:
        """Write one command.

        @return: fires when its reply has come; fails if it cannot come any more.
        """
        token = self._token()
        reply: Deferred[Any] = protocol.execute_command("ECHO", token)
        return reply.addCallback(self._compare, token)

    def ask_and_leave(self, protocol: Any) -> None:
        """Write one command and wait no more for its reply, which may come yet."""
        self.ask(protocol).addErrback(lambda failure: failure.trap(RedisConnectionError))

    async def talk(self, protocol: Any) -> None:
        """Write some commands, each with a token of its own, and wait for all replies."""
        choice = self.rng.choice((self._one_by_one, self._in_a_pipeline, self._by_way_of_a_key))
        await choice(protocol)

    async def _one_by_one(self, protocol: Any) -> None:
        for _ in range(self.rng.randint(1, 3)):
            await self.ask(protocol)

    async def _in_a_pipeline(self, protocol: Any) -> None:
        asked = [self.ask(protocol) for _ in range(self.rng.randint(2, 5))]
        outcomes: Any = await DeferredList(asked, consumeErrors=True)
        for came, outcome in outcomes:
            if not came:
                outcome.raiseException()

    async def _by_way_of_a_key(self, protocol: Any) -> None:
        # A key of its own, or a command that was left behind on another connection could be
        # executed in between; it expires, for the caller may not come to remove it.
        key, token = self._token(size=1), self._token()
        await protocol.set(key, token, expire=60)
        self._compare(await protocol.execute_command("GETDEL", key), token)

    def _token(self, size: int | None = None) -> str:
        self._tokens += 1
        return f"{self.name}-{self._tokens}-" + "x" * (size or self.rng.choice(SIZES))

    def _compare(self, reply: object, token: str) -> None:
        if reply == token:
            self.crowd.replies += 1
        else:
            self.crowd.violated(f"{self.name} asked for {token:.40} and got {reply!r:.60}")


Kind = Callable[[Caller], Coroutine[Deferred[Any], Any, None]]
"""What a caller does in one turn; it may end with any of the C{EXPECTED}."""
