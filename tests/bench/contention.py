"""Contention: a thousand tasks share ten connections, and each yields to the loop in its lease."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.bench.idle import Source, fake_pool, fill, kolus, queue
from tests.bench.measure import Case, Meter

CONNECTIONS = 10
TASKS = 1000
LEASES = 10
CONTENDED_BY_HAND = "contended, with a DeferredQueue"
TURNS = 4
"""How often kolus and what it is compared with take their turns in a sample."""
EVERY = 4
"""Rounds for each measurement, since one takes a second with all its turns."""


class Contention:
    """One run: every task leases, yields once to the loop, and releases.

    @ivar spread: the difference of operations between the fastest and the slowest task, when half
        of all operations were done.
    """

    def __init__(self, source: Source, pause: Callable[[], Awaitable[object]]) -> None:
        self.spread = 0
        self._source = source
        self._pause = pause
        self._done = [0] * TASKS
        self._left = TASKS * LEASES

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        return [self._work(number) for number in range(TASKS)]

    def pauses(self) -> list[Coroutine[Any, Any, None]]:
        """The same without leases: as many yields, as many of them in each turn of the loop."""
        return [self._idle(number) for number in range(CONNECTIONS)]

    async def _work(self, number: int) -> None:
        ask, give, pause, note = self._source.ask, self._source.give, self._pause, self._note
        for _ in range(LEASES):
            thing = await ask()
            await pause()
            given = give(thing)
            if given is not None:
                await given
            note(number)

    async def _idle(self, number: int) -> None:
        pause, note = self._pause, self._note
        for _ in range(TASKS * LEASES // CONNECTIONS):
            await pause()
            note(number)

    def _note(self, number: int) -> None:
        self._done[number] += 1
        self._left -= 1
        if self._left == TASKS * LEASES // 2:
            self.spread = max(self._done) - min(self._done)


async def _compare(
    meter: Meter, contention: Callable[[], Contention], gather: Callable[..., Awaitable[object]]
) -> Mapping[str, float]:
    with meter.whole(TASKS * LEASES) as yields:
        await gather(contention().pauses())
    run = contention()
    with meter.whole(TASKS * LEASES) as leases:
        await gather(run.tasks())
    return {"contended": leases.in_f - yields.in_f, "contended, spread": run.spread}


def on_twisted(reactor: Any, source: Source) -> Case:
    """A contention on the reactor that runs."""

    def turn() -> Deferred[None]:
        turned: Deferred[None] = Deferred()
        reactor.callLater(0, turned.callback, None)
        return turned

    def gather(tasks: list[Coroutine[Any, Any, None]]) -> Deferred[Any]:
        return gatherResults([Deferred.fromCoroutine(each) for each in tasks])

    async def sample(meter: Meter) -> Mapping[str, float]:
        return await _compare(meter, partial(Contention, source, turn), gather)

    return Case(source.who, sample, EVERY)


def on_asyncio(source: Source) -> Case:
    """A contention on the asyncio loop that runs."""

    async def gather(tasks: list[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*tasks)

    async def sample(meter: Meter) -> Mapping[str, float]:
        contention = partial(Contention, source, partial(asyncio.sleep, 0))
        return await _compare(meter, contention, gather)

    return Case(source.who, sample, EVERY)


def contended_kolus(reactor: Any) -> Case:
    """Kolus, and in the same sample what it is compared with."""
    pool, backend = fake_pool(CONNECTIONS, reactor)
    ours = on_twisted(reactor, kolus(fill(pool, backend, CONNECTIONS)))
    by_hand = on_twisted(reactor, queue(CONNECTIONS))

    async def theirs(meter: Meter) -> Mapping[str, float]:
        return {CONTENDED_BY_HAND: (await by_hand.sample(meter))["contended"]}

    async def sample(meter: Meter) -> Mapping[str, float]:
        # What is compared are small differences of long times. If each were measured once, a
        # machine that is slower for half a second would double the ratio.
        figures: defaultdict[str, list[float]] = defaultdict(list)
        for turn in range(TURNS):
            for run in (ours.sample, theirs) if turn % 2 else (theirs, ours.sample):
                for what, figure in (await run(meter)).items():
                    figures[what].append(figure)
        return {what: median(each) for what, each in figures.items()}

    return Case("kolus", sample, EVERY)
