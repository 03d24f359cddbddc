"""The troubles that the soak makes for the redis-server and the pool, one function each.

To add one, write a function here and add its name to C{TORMENTS}. It must leave the server running.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.net.servers import Server
from tests.net.soak_callers import Crowd
from tests.net.soak_watch import Watch

__all__ = ["TORMENTS", "Storm"]


class Storm:
    """Torments a server: every torment once, in random order, and then again.

    @ivar suffered: how often each was done.
    """

    def __init__(
        self, reactor: Any, server: Server, crowd: Crowd, watch: Watch, rng: random.Random
    ) -> None:
        self.server = server
        self.crowd = crowd
        self.watch = watch
        self.rng = rng
        self.suffered: Counter[str] = Counter()
        self._reactor = reactor

    async def rage(self, seconds: float) -> None:
        """Go on for that long, or until all was done once; count connections at random moments."""
        until = self._reactor.seconds() + seconds
        while True:
            for torment in self.rng.sample(TORMENTS, len(TORMENTS)):
                if self._reactor.seconds() >= until and len(self.suffered) == len(TORMENTS):
                    return
                await torment(self)
                self.suffered[torment.__name__] += 1
                for _ in range(self.rng.randint(1, 8)):
                    await self.watch.count()
                    await self.wait(0.0, 0.2)

    async def wait(self, least: float, most: float) -> None:
        """Wait for a random time, in seconds."""
        await deferLater(self._reactor, self.rng.uniform(least, most))
        self.watch.count_sockets()

    def quiet(self, seconds: float) -> None:
        """Let all callers rest."""
        self.crowd.quiet_until = self._reactor.seconds() + seconds


async def kill(storm: Storm) -> None:
    """SIGKILL, and a new start."""
    await storm.server.kill()
    await storm.wait(0.0, 0.6)
    await storm.server.start()


async def terminate(storm: Storm) -> None:
    """SIGTERM, upon which it shuts down in order, and a new start."""
    await storm.server.terminate()
    await storm.wait(0.0, 0.6)
    await storm.server.start()


async def freeze(storm: Storm) -> None:
    """SIGSTOP and SIGCONT."""
    storm.server.freeze()
    await storm.wait(0.05, 3.0)
    storm.server.thaw()


async def freeze_and_kill(storm: Storm) -> None:
    """SIGSTOP, and no more life in it."""
    storm.server.freeze()
    await storm.wait(0.05, 1.5)
    await kill(storm)


async def kill_some_clients(storm: Storm) -> None:
    """CLIENT KILL of every third, at random, several times."""
    for _ in range(storm.rng.randint(1, 5)):
        for client in await storm.watch.clients():
            if storm.rng.random() < 1 / 3:
                await storm.watch.ask("CLIENT", "KILL", "ID", client.number)
        await storm.wait(0.0, 0.2)


async def kill_all_clients(storm: Storm) -> None:
    """CLIENT KILL of all at once."""
    await storm.watch.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def lull(storm: Storm) -> None:
    """The callers rest, so that connections are idle, checked, and closed for being idle so long.

    What comes next comes before they are back.
    """
    storm.quiet(storm.rng.uniform(0.5, 4.0))
    await storm.wait(0.0, 2.0)


async def invalidate(storm: Storm) -> None:
    """Everything open is replaced."""
    storm.crowd.pool.invalidate(storm.crowd.backend)


async def resize(storm: Storm) -> None:
    """The limit is smaller for a while."""
    storm.crowd.pool.resize(max(1, storm.watch.limit // 2), storm.crowd.backend)
    await storm.wait(0.0, 1.0)
    storm.crowd.pool.resize(storm.watch.limit, storm.crowd.backend)


async def pause(storm: Storm) -> None:
    """No leases for a while."""
    storm.crowd.pool.pause()
    await storm.wait(0.0, 1.0)
    storm.crowd.pool.resume()


Torment = Callable[[Storm], Coroutine[Deferred[Any], Any, None]]
TORMENTS: tuple[Torment, ...] = (
    *(kill, terminate, freeze, freeze_and_kill),
    *(kill_some_clients, kill_all_clients, lull),
    *(invalidate, resize, pause),
)
