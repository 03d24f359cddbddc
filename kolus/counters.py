"""What has happened at one backend so far: numbers that only grow.

Changed by the backend's managers only; the pool keeps them when a manager goes away.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Counts since the pool was made.

    C{leases == releases + finishes + forgotten +} what is held now, and C{connects == closes +}
    what is open now.
    """

    connects: int = 0
    """Connections that were made and prepared."""
    connect_failures: int = 0
    """Attempts that failed, were too slow, or ended as soon as they were connected."""
    closes: int = 0
    """Connections that have ended, whoever ended them."""
    leases: int = 0
    """Leases given."""
    releases: int = 0
    """Leases settled with C{release()}."""
    finishes: int = 0
    """Leases settled with C{finished()}."""
    forgotten: int = 0
    """Leases reclaimed because nobody referred to them any more."""
    overdue: int = 0
    """Leases that were held for longer than the policy's C{leak_after}, settled since or not."""
    timeouts: int = 0
    """Requests that waited in vain."""
    rejections: int = 0
    """Requests refused at once with a C{Rejected} or C{Closed}."""

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )
