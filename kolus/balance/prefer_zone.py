"""C{prefer_zone}: chooses among the backends of one zone while one of them takes requests."""

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
    """A balancer that chooses among the backends of one zone while one of them takes requests.

    @param zone: the preferred backends have this C{zone}.
    @param then: chooses among these, or among all if it finds none that takes requests. The default
        is C{pick_two()}. The result also has its attributes C{bound} and C{observe}, if any.
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
