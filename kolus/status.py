"""How a backend is now (C{Status}) and what has happened there so far (C{Counters})."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.interfaces import IKolusManager

__all__ = ["Counters", "State", "Status"]


class State(Enum):
    """What a backend's manager does with a new request."""

    ABSENT = "absent"
    """No manager runs: the first connect makes one."""
    OPEN = "open"
    EJECTED = "ejected"
    """It is open, but not chosen for a while, because of its health."""
    DUE = "due"
    """It was ejected, and may be given one request, to see how it is."""
    PAUSED = "paused"
    """Requests wait until it is resumed."""
    DRAINING = "draining"
    """No new leases; the old ones may still be held."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Status:
    """The numbers of one backend's manager; out of date as soon as you have it."""

    backend: Backend
    manager: IKolusManager | None
    """C{None} where no manager runs, and where there is one for each ident."""
    ident: Hashable
    """Whom the manager's connections are for; C{None} where C{manager} is."""
    idle: int | None
    """Connections that are ready, or slots on them; C{None} where no manager runs."""
    leased: int
    """Connections that are out: with a lessee, or in a check or reset before or after one."""
    connecting: int
    """Connections that are being made and prepared."""
    unused: int | None
    """How many more may be opened under the limit; C{None} where no manager runs."""
    waiting: int
    """Requests in the queue."""
    limit: int
    """Most connections at any time; of shared ones, most leases."""
    state: State
    ramp: float = 1.0
    """The share of its weight that the backend has: below 1 while it starts slowly."""

    @property
    def takes_requests(self) -> bool:
        """Whether it may be chosen: health comes before load."""
        return self.state is State.OPEN or self.state is State.ABSENT or self.state is State.DUE

    @property
    def load(self) -> float:
        """Its pressure; infinity if it is not to be chosen: what takes no requests has nothing
        outstanding and would look idle."""
        return self.pressure if self.takes_requests else math.inf

    @property
    def pressure(self) -> float:
        """What is leased and waits, with one request more, for its weight."""
        return (self.leased + self.waiting + 1) / (self.backend.weight * self.ramp)

    @property
    def room(self) -> int:
        """How many more requests could be served without one of them waiting for a release."""
        unused = self.limit if self.unused is None else self.unused
        return (self.idle or 0) + unused + self.connecting - self.waiting

    @classmethod
    def total(cls, backend: Backend, statuses: Sequence[Status]) -> Status:
        """The numbers of several managers of one backend, which share its limit."""
        taking = [each for each in statuses if each.takes_requests]
        return cls(
            backend=backend,
            manager=None,
            ident=None,
            idle=sum([each.idle or 0 for each in statuses]),
            leased=sum([each.leased for each in statuses]),
            connecting=sum([each.connecting for each in statuses]),
            unused=min([each.unused or 0 for each in statuses]),
            waiting=sum([each.waiting for each in statuses]),
            limit=max([each.limit for each in statuses]),
            state=(taking or statuses)[0].state,
            ramp=statuses[0].ramp,
        )

    def __str__(self) -> str:
        return (
            f"{self.backend} ({self.state.value}: limit {self.limit}, idle {self.idle or 0}, "
            f"leased {self.leased}, connecting {self.connecting}, waiting {self.waiting})"
        )


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
