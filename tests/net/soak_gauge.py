"""Measures the soak's memory and descriptors, and whether they grow."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

__all__ = ["Growth", "Reading", "descriptors", "growth", "read_gauge"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """The gauge at one moment, with no garbage left."""

    resident: int
    """Memory of the process, in bytes."""
    blocks: int
    """Blocks that Python's allocator has given out: exact, where C{resident} is coarse."""
    descriptors: int

    def __str__(self) -> str:
        return (
            f"{self.resident / MIB:.1f} MiB, {self.blocks} blocks, {self.descriptors} descriptors"
        )


def read_gauge() -> Reading:
    """Read it now, after a collection of garbage."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Reading(pages * resource.getpagesize(), sys.getallocatedblocks(), descriptors())


def descriptors() -> int:
    """How many this process has open, but the one that counts them."""
    return len(os.listdir("/proc/self/fd")) - 1


@dataclass(frozen=True, slots=True)
class Growth:
    """How much one number grew over the steady part of a run."""

    name: str
    first: int
    last: int
    by: int
    """What it grew by, at the rate of its growth."""
    most: int
    """What it may grow by. In a run of seconds it finds what leaks a block or a kilobyte with each
    lease."""

    @property
    def allowed(self) -> bool:
        return self.by <= self.most

    def __str__(self) -> str:
        verdict = "" if self.allowed else f", more than the {self.most} that are allowed"
        return f"{self.name}: first {self.first}, at last {self.last}, growth {self.by}{verdict}"


def growth(readings: Sequence[Reading], rests: Sequence[Reading]) -> list[Growth]:
    """How much the numbers grew.

    Blocks are exact, so they are compared at rest: a crowd, and what a slow machine lets wait,
    needs any number of them.

    Resident memory also rises by steps: the heap keeps what the largest crowd so far has needed. A
    leak raises it all the time, so of three rises between four quarters of the time the smallest
    counts, three times. The first fifth is left out: there everything is used for the first time.
    Of each quarter the lower quartile counts: what leaks raises it, while crowds raise single
    readings only.

    @param readings: made while the crowd was there.
    @param rests: made when nobody was there and nothing was open. Before the first of them
        everything was used once.
    @return: nothing of what there are too few readings for.
    """
    found = []
    steady = readings[len(readings) // 5 :]
    if len(steady) >= 4:
        resident = _lows([each.resident for each in steady], 4)
        smallest = min(after - before for before, after in pairwise(resident))
        name, by = "bytes of resident memory", 3 * smallest
        found.append(Growth(name, resident[0], resident[-1], by, 4 * MIB))
    if len(rests) >= 2:
        first, last = rests[0].blocks, rests[-1].blocks
        found.append(Growth("allocated blocks at rest", first, last, last - first, 1000))
    return found


def _lows(numbers: Sequence[int], parts: int) -> list[int]:
    """The lower quartile of each of so many equal parts."""
    size = len(numbers) // parts
    return [sorted(numbers[at * size : (at + 1) * size])[size // 4] for at in range(parts)]
