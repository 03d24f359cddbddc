"""C{pick_two}: draws two backends and takes the less loaded one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kolus.balance.candidates import by_load, lighter, two_of

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["DRAWS", "draw_of", "pick_two"]

DRAWS = 8
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
    return _PickTwo(rng)


class _PickTwo:
    """
    @ivar draw: draws a number from 0 to 1.
    @ivar is_safe: whether C{draw} never raises, so that it may be called by others.
    """

    __slots__ = ("__weakref__", "draw", "is_safe")

    def __init__(self, rng: Rng) -> None:
        self.draw = rng.random
        self.is_safe = rng is random or type(rng) is random.Random

    def __call__(self, statuses: Sequence[Status], drawn: tuple[int, int] | None = None) -> Status:
        """
        @param drawn: the first two, if the caller has drawn them already.
        """
        count = len(statuses)
        if count == 1:
            return statuses[0]
        for _ in range(DRAWS):
            first, second = drawn or two_of(self.draw, count)
            drawn = None
            chosen = lighter(statuses, first, second)
            if chosen is not None:
                return chosen
            if count == 2:
                break
        return min(statuses, key=by_load) if 2 < count <= 2 * DRAWS else statuses[first]

    def __repr__(self) -> str:
        return "pick_two()"


def draw_of(balancer: Balancer) -> Callable[[], float] | None:
    """The draws of a balancer that C{pick_two} made; C{None} for any other balancer. A caller may
    draw two and compare them itself; if neither is of use, it gives them to the balancer.

    A wrapper may have the attributes of the balancer that it wraps, but not its class.
    """
    return balancer.draw if type(balancer) is _PickTwo and balancer.is_safe else None
