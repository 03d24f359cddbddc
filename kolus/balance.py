"""Balancers: plain callables that choose one C{Status} out of a sequence of them.

Each prefers backends that take new requests. Where no manager runs yet nothing is leased and
nothing waits, and the whole limit is unused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from kolus.backend import State, Status
from kolus.backoff import Rng

__all__ = [
    "NAMES",
    "Balancer",
    "fill_first",
    "idle_first",
    "least_leased",
    "pick_two",
    "round_robin",
]

Balancer = Callable[[Sequence[Status]], Status]


def fill_first(statuses: Sequence[Status]) -> Status:
    """The first backend, in the order given, that can serve without a queue.

    When all are full: the one with the fewest waiting.
    """
    for status in statuses:
        if _takes_requests(status) and _room(status) > 0:
            return status
    return min(statuses, key=lambda status: (not _takes_requests(status), status.waiting))


def idle_first(statuses: Sequence[Status]) -> Status:
    """The first backend that has a connection ready; if none has, the least leased one."""
    for status in statuses:
        if _takes_requests(status) and status.idle and not status.waiting:
            return status
    return least_leased(statuses)


def least_leased(statuses: Sequence[Status]) -> Status:
    """The backend with the fewest leased and waiting for its weight; the first of equals."""
    return min(statuses, key=_load)


def round_robin() -> Balancer:
    """A balancer that takes the backends in turn, passing over those that take no requests."""
    turn = 0

    def take_turns(statuses: Sequence[Status]) -> Status:
        nonlocal turn
        for _ in statuses:
            status = statuses[turn % len(statuses)]
            turn += 1
            if _takes_requests(status):
                break
        return status

    return take_turns


def pick_two(rng: Rng = random) -> Balancer:
    """A balancer that draws two backends and takes the less loaded one.

    Nearly as even as looking at all of them, at the cost of looking at two: Michael Mitzenmacher,
    "The Power of Two Choices in Randomized Load Balancing", 2001.
    """

    def less_loaded_of_two(statuses: Sequence[Status]) -> Status:
        count = len(statuses)
        if count == 1:
            return statuses[0]
        first = int(rng.random() * count)
        second = int(rng.random() * (count - 1))
        if second >= first:
            second += 1
        return min(statuses[first], statuses[second], key=_load)

    return less_loaded_of_two


NAMES: dict[str, Callable[[], Balancer]] = {
    "fill_first": lambda: fill_first,
    "idle_first": lambda: idle_first,
    "least_leased": lambda: least_leased,
    "pick_two": pick_two,
    "round_robin": round_robin,
}
"""Each balancer's name, as a command line gives it, and what makes a new one."""


def _takes_requests(status: Status) -> bool:
    return status.state is State.OPEN or status.state is State.ABSENT


def _room(status: Status) -> int:
    """How many more requests could be served without one of them waiting for a release."""
    idle = status.idle or 0
    unused = status.limit if status.unused is None else status.unused
    return idle + unused + status.connecting - status.waiting


def _load(status: Status) -> tuple[bool, float]:
    """Health before load: what takes no requests has nothing outstanding and looks idle."""
    return (not _takes_requests(status), (status.leased + status.waiting) / status.backend.weight)
