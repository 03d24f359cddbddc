"""C{pick_two}: draws two backends and takes the less loaded one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kolus.balance.candidates import lighter
from kolus.balance.lowest import by_load

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["draw_of", "pick_two"]

_DRAWS = 8
"""Number of draws, as long as neither backend takes requests. If half of the backends are ejected,
which is the maximum, all draws fail once in 65 536 requests."""


def pick_two(rng: Rng = random) -> Balancer:
    """A balancer that draws two backends and takes the less loaded one.

    The load is almost as even as if it looked at all backends: Michael Mitzenmacher, "The Power of
    Two Choices in Randomized Load Balancing", 2001. If neither takes requests it draws again, up to
    8 times. If all draws fail, it takes the least loaded of at most 16 backends, or the first of
    the last draw if there are more.

    @param rng: source of the draws.
    """
    draw = rng.random

    def less_loaded_of_two(
        statuses: Sequence[Status], drawn: tuple[int, int] | None = None
    ) -> Status:
        count = len(statuses)
        if count == 1:
            return statuses[0]
        look = getattr(statuses, "lighter", None) or partial(lighter, statuses)
        for _ in range(_DRAWS):
            if drawn is None:
                first = int(draw() * count)
                second = int(draw() * (count - 1))
                if second >= first:
                    second += 1
            else:
                (first, second), drawn = drawn, None
            chosen: Status | None = look(first, second)
            if chosen is not None:
                return chosen
            if count == 2:
                break
        return min(statuses, key=by_load) if 2 < count <= 2 * _DRAWS else statuses[first]

    # For who draws and compares itself; if that is of no use, what it drew comes as C{drawn}.
    if rng is random or type(rng) is random.Random:  # whatever else it is might raise
        own = (less_loaded_of_two, draw)
        less_loaded_of_two.draws_two_by = own  # type: ignore[attr-defined]
    return less_loaded_of_two


def draw_of(balancer: Balancer) -> Callable[[], float] | None:
    """What a balancer draws two by, if it is one that C{pick_two} made; else C{None}.

    A wrapper may have the attributes of the balancer that it wraps. It is called like any other.
    """
    own = getattr(balancer, "draws_two_by", None)
    return own[1] if own is not None and own[0] is balancer else None
