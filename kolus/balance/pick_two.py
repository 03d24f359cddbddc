"""C{pick_two}: draws two backends and takes the less loaded one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from kolus.balance.candidates import lighter
from kolus.balance.lowest import by_load

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["pick_two"]

_PAIRS = 8
"""How often two are drawn of which neither takes requests. With half of the backends ejected, the
most that there can be, this fails once in 65 536 requests."""


def pick_two(rng: Rng = random) -> Balancer:
    """A balancer that draws two backends and takes the less loaded one.

    Nearly as even as looking at all of them, at the cost of looking at two: Michael Mitzenmacher,
    "The Power of Two Choices in Randomized Load Balancing", 2001. If neither takes requests it
    draws again, up to 8 times; what it has then is the answer, unless there are so few backends
    that looking at each costs no more.
    """
    draw = rng.random

    def less_loaded_of_two(statuses: Sequence[Status]) -> Status:
        count = len(statuses)
        if count == 1:
            return statuses[0]
        look = getattr(statuses, "lighter", None) or partial(lighter, statuses)
        for _ in range(_PAIRS):
            first = int(draw() * count)
            second = int(draw() * (count - 1))
            if second >= first:
                second += 1
            chosen: Status | None = look(first, second)
            if chosen is not None:
                return chosen
            if count == 2:
                break
        return min(statuses, key=by_load) if 2 < count <= 2 * _PAIRS else statuses[first]

    return less_loaded_of_two
