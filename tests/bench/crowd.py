"""Many waiters in one queue: serving the oldest, and cancelling any of them."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kolus.testing import result_of
from tests.bench.idle import Source, fake_pool, fill, kolus
from tests.bench.measure import Case, Meter

DEPTHS = (10, 10_000, 100_000)
OPERATIONS = 1000
FEW = 10


class Crowd:
    """The waiters at a source with one connection, which the crowd itself holds.

    The state is the waiters in the order of arrival, and the held connection.
    """

    def __init__(self, source: Source, depth: int, rng: Random) -> None:
        self.give = source.give
        self.held: list[Any] = []
        self._ask = source.ask
        self._rng = rng
        self._waiters: list[Deferred[Any]] = []
        self.held.append(result_of(source.ask()))
        self.grow(depth)

    def grow(self, number: int) -> None:
        """Let so many more wait."""
        ask, held, waiters = self._ask, self.held, self._waiters
        for _ in range(number):
            waiters.append(ask().addCallbacks(held.append, _cancelled))

    def serve(self, number: int) -> None:
        """Hand what is held to the oldest, then on to the next."""
        give, held = self.give, self.held
        for _ in range(number):
            give(held.pop())

    def turn_over(self, number: int) -> None:
        """Serve the oldest whenever another one comes."""
        ask, give, held, waiters = self._ask, self.give, self.held, self._waiters
        for _ in range(number):
            waiters.append(ask().addCallbacks(held.append, _cancelled))
            give(held.pop())

    def forget(self, number: int) -> None:
        """So many, and no more, were served."""
        assert self._waiters[number - 1].called
        assert not self._waiters[number].called
        del self._waiters[:number]

    def choose(self, number: int) -> list[Deferred[Any]]:
        """Take waiters from anywhere in the queue, for the caller to cancel."""
        places = self._rng.sample(range(len(self._waiters)), number)
        chosen = [self._waiters[place] for place in places]
        gone = set(places)
        self._waiters = [each for at, each in enumerate(self._waiters) if at not in gone]
        return chosen


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


def crowd_cases(source: Source, depth: int, rng: Random, cancels: int = OPERATIONS) -> list[Case]:
    """Hand-offs to waiters and cancelling them, at one depth of the queue.

    The queue grows by as many as leave it next, and only that is measured. A few at a time, so
    that a queue of ten never holds more than twenty.

    @param source: has one thing to lend.
    @param cancels: how many to cancel in a sample: fewer where each takes a millisecond.
    """
    crowd = Crowd(source, depth, rng)

    async def hand_off(meter: Meter) -> Mapping[str, float]:
        with meter.parts(OPERATIONS) as reading:
            for _ in range(OPERATIONS // FEW):
                crowd.grow(FEW)
                with reading:
                    crowd.serve(FEW)
        crowd.forget(OPERATIONS)
        return {f"hand-off, {depth}": reading.in_f}

    async def turn_over(meter: Meter) -> Mapping[str, float]:
        with meter.whole(OPERATIONS) as reading:
            crowd.turn_over(OPERATIONS)
        crowd.forget(OPERATIONS)
        return {f"turn-over, {depth}": reading.in_f}

    async def cancel(meter: Meter) -> Mapping[str, float]:
        each = min(depth, cancels)  # to choose takes a while where many wait
        with meter.parts(cancels) as reading:
            for _ in range(cancels // each):
                crowd.grow(each)
                chosen = crowd.choose(each)
                with reading:
                    for waiter in chosen:
                        waiter.cancel()
        return {f"cancel, {depth}": reading.in_f}

    return [Case(source.who, sample) for sample in (hand_off, turn_over, cancel)]


def one_connection() -> Source:
    """Kolus with a single connection."""
    pool, backend = fake_pool(1)
    return kolus(fill(pool, backend, 1))
