"""Measures thread CPU time in the unit F, the minimal cost of a Deferred.

Machines differ, and the speed of one machine changes within seconds. So each reading is taken
between two readings of F, each round has another order of the cases, and the result is the median
and the quartiles of many rounds. The cyclic garbage collector is off, as in C{timeit}.
"""

from __future__ import annotations

import gc
import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from time import thread_time

from twisted.internet.defer import succeed

UNITS = 4000
"""How many F a sample of it takes: 3 ms or so."""


def sample_of_f() -> float:
    """CPU seconds of one C{defer.succeed(x).addCallback(f)}."""

    def f(x: None) -> None:
        return x

    start = thread_time()
    for _ in range(UNITS):
        succeed(None).addCallback(f)
    return (thread_time() - start) / UNITS


class Reading:
    """One measurement, complete when the C{with} of its meter is left.

    Used as a context manager itself it takes the time of a part, again and again.

    @ivar seconds: CPU seconds of one operation.
    @ivar in_f: the same in F.
    """

    seconds = 0.0
    in_f = 0.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(self, *error: object) -> None:
        self.seconds += self._clock() - self._start


class Meter:
    """Takes readings, and remembers what F was around each.

    @ivar units: every sample of F so far, in seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = thread_time, unit: Callable[[], float] = sample_of_f
    ) -> None:
        self.units: list[float] = []
        self._clock = clock
        self._unit = unit

    @contextmanager
    def parts(self, operations: int) -> Iterator[Reading]:
        """Measure those parts of a block for which the reading is entered.

        @param operations: how many the parts do together.
        """
        reading = Reading(self._clock)
        before = self._unit()
        yield reading
        after = self._unit()
        self.units += before, after
        reading.seconds /= operations
        reading.in_f = reading.seconds / ((before + after) / 2)

    @contextmanager
    def whole(self, operations: int) -> Iterator[Reading]:
        """Measure a block. It may give the loop its turn."""
        with self.parts(operations) as reading, reading:
            yield reading


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure, again in every round."""

    who: str
    sample: Callable[[Meter], Awaitable[Mapping[str, float]]]
    """Measures once.

    @return: figures by what they are figures of.
    """
    every: int = 1
    """It is measured in one round out of so many, for what takes a second."""


def together(cases: Sequence[Case]) -> Case:
    """One case of several, for figures that are compared: they are taken one after the other."""

    async def sample(meter: Meter) -> Mapping[str, float]:
        figures: dict[str, float] = {}
        for case in cases:
            figures |= await case.sample(meter)
        return figures

    return Case(cases[0].who, sample)


@dataclass(frozen=True, slots=True)
class Spread:
    """What is told of many figures."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """The median between the quartiles."""
        if len(figures) == 1:
            return cls(figures[0], figures[0], figures[0])
        return cls(*statistics.quantiles(figures, n=4, method="inclusive"))


@dataclass(slots=True)
class Figures:
    """What was measured: of what, of whom, in the order of the rounds."""

    _figures: defaultdict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, who: str, figures: Mapping[str, float]) -> None:
        for what, figure in figures.items():
            self._figures[what, who].append(figure)

    def of(self, what: str, who: str) -> list[float]:
        """None if it was not measured."""
        return self._figures.get((what, who), [])

    def peers(self) -> list[str]:
        """Who was measured beside kolus, in the order of the alphabet."""
        return sorted({who for _, who in self._figures} - {"kolus"}, key=str.lower)


async def measure(
    cases: Sequence[Case],
    rounds: int,
    meter: Meter,
    rng: Random,
    progress: Callable[[int], object] = lambda done: None,
) -> Figures:
    """Measure all cases, each round in another order.

    @param progress: told of every round that is done.
    """
    figures = Figures()
    gc.disable()
    try:
        for number in range(rounds):
            due = [case for case in cases if number % case.every == 0]
            rng.shuffle(due)
            # What stays is left out of every later collection, which would else take a second.
            gc.collect()
            gc.freeze()
            for case in due:
                figures.add(case.who, await case.sample(meter))
            progress(number + 1)
    finally:
        gc.enable()
    return figures
