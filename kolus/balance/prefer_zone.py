"""C{prefer_zone}: chooses in one zone for as long as something there takes requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kolus.balance.candidates import in_zone
from kolus.balance.pick_two import pick_two

if TYPE_CHECKING:
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["prefer_zone"]


def prefer_zone(zone: str, then: Balancer | None = None) -> Balancer:
    """A balancer that chooses in one zone for as long as something there takes requests.

    @param zone: the C{zone} of the backends that are preferred.
    @param then: chooses among them, and among all if they take no requests; C{pick_two()} if
        C{None}. Its attributes C{bound} and C{observe}, if it has them, are the result's too.
    """
    choose = pick_two() if then is None else then

    def nearest(statuses: Sequence[Status]) -> Status:
        near = in_zone(statuses, zone)
        if len(near):
            chosen = choose(near)
            if chosen.takes_requests:
                return chosen
        return choose(statuses)

    for name in ("bound", "observe"):
        if hasattr(choose, name):
            setattr(nearest, name, getattr(choose, name))
    nearest.prefers = True  # type: ignore[attr-defined]
    return nearest
