"""Measures the soak's memory and descriptors, and whether they grow."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
    """One number in the first half of the readings and in the second."""

    name: str
    first: int
    second: int
    most: int
    """By how much the second may exceed the first. Over ten minutes that is some fifty bytes
    for each lease; in a run of seconds it finds what leaks some blocks or a kilobyte with each."""

    @property
    def allowed(self) -> bool:
        return self.second <= self.first + self.most

    def __str__(self) -> str:
        verdict = "" if self.allowed else f", more than the {self.most} that are allowed"
        return f"{self.name}: first {self.first}, then {self.second}{verdict}"


def growth(readings: Sequence[Reading]) -> list[Growth]:
    """Compare the second half with the first.

    The lower quartiles are compared: what leaks raises them, while crowds raise single readings
    only. The first fifth is left out: there everything is used for the first time.

    @return: none for readings too few to have halves.
    """
    steady = readings[len(readings) // 5 :]
    middle = len(steady) // 2
    if middle == 0:
        return []
    first, second = steady[:middle], steady[middle:]

    def compared(name: str, most: int, number: Callable[[Reading], int]) -> Growth:
        return Growth(
            name, _lower_quartile(map(number, first)), _lower_quartile(map(number, second)), most
        )

    return [
        compared("bytes of resident memory", 4 * MIB, lambda each: each.resident),
        compared("allocated blocks", 6000, lambda each: each.blocks),
    ]


def _lower_quartile(numbers: Iterable[int]) -> int:
    ordered = sorted(numbers)
    return ordered[len(ordered) // 4]
