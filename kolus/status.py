"""The current numbers of a backend (C{Status}), and its counts so far (C{Counters})."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.interfaces import IKolusManager

__all__ = ["Counters", "GroupStatus", "State", "Status"]


class State(Enum):
    """What the backend does with a new request."""

    ABSENT = "absent"
    """It has no manager: the first request makes one."""
    OPEN = "open"
    """It serves requests."""
    EJECTED = "ejected"
    """It is open, but balancers do not choose it, because of its health."""
    DUE = "due"
    """It is ejected, and may get one request as a probe."""
    PAUSED = "paused"
    """Requests wait until it is resumed."""
    DRAINING = "draining"
    """It gives no new leases; present leases may still be held."""
    CLOSED = "closed"
    """Its manager is closed."""


@dataclass(frozen=True, slots=True)
class Status:
    """The numbers of one backend's manager at the time of the call."""

    backend: Backend
    manager: IKolusManager | None
    """The manager; C{None} if there is none, or if there is one for each ident."""
    ident: Hashable
    """The manager's ident; C{None} if C{manager} is C{None}."""
    idle: int | None
    """Idle connections, or free slots on connections; C{None} without a manager."""
    leased: int
    """Leased connections, including those in a check or in a reset."""
    connecting: int
    """Connections that are being made and prepared."""
    unused: int | None
    """How many more connections the limits of backend and pool allow. C{None} without a manager,
    unless the pool's limit allows fewer than the backend's."""
    waiting: int
    """Requests in the queue."""
    limit: int
    """Most connections at a time; for shared connections, most leases."""
    state: State
    """What the backend does with a new request."""
    ramp: float = 1.0
    """The share of the backend's weight that counts now: less than 1.0 in slow start."""
    detached: int = 0
    """Connections that have left the pool and keep their slots until they end."""

    @property
    def takes_requests(self) -> bool:
        """Whether a balancer may choose it: its state is C{OPEN}, C{ABSENT} or C{DUE}."""
        return self.state is State.OPEN or self.state is State.ABSENT or self.state is State.DUE

    @property
    def load(self) -> float:
        """The pressure; infinity if it takes no requests. Otherwise an ejected backend, which has
        no leases and no waiters, would look idle."""
        return self.pressure if self.takes_requests else math.inf

    @property
    def pressure(self) -> float:
        """The leases and waiters plus one, divided by the current weight."""
        return (self.leased + self.waiting + 1) / (self.backend.weight * self.ramp)

    @property
    def room(self) -> int:
        """How many more requests it can serve without waiting for a release; may be negative."""
        unused = self.limit if self.unused is None else self.unused
        return (self.idle or 0) + unused + self.connecting - self.waiting

    @classmethod
    def total(cls, backend: Backend, statuses: Sequence[Status]) -> Status:
        """The sum of the numbers of several managers of one backend, which share its limit."""
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
            detached=statuses[0].detached,
        )

    def __str__(self) -> str:
        detached = f", detached {self.detached}" if self.detached else ""
        return (
            f"{self.backend} ({self.state.value}: limit {self.limit}, idle {self.idle or 0}, "
            f"leased {self.leased}, connecting {self.connecting}, waiting {self.waiting}{detached})"
        )


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The numbers of one group; out of date as soon as you have it."""

    name: str | None
    """What it is called."""
    backends: tuple[Status, ...]
    """The numbers of its backends, in the source's order."""
    waiting: int
    """Requests that any of the backends may serve, each of which is counted at one of them, too;
    or that wait for the first list of backends."""
    ejected: int
    """How many of its backends are ejected."""
    panics: bool
    """Whether so many are that all may be chosen."""
    panicked: int
    """How many requests were given to an ejected backend for that reason."""

    def __str__(self) -> str:
        counts = {
            "idle": sum([each.idle or 0 for each in self.backends]),
            "leased": sum([each.leased for each in self.backends]),
            "connecting": sum([each.connecting for each in self.backends]),
            "waiting": self.waiting,
        }
        told = ", ".join([f"{name} {count}" for name, count in counts.items()])
        ejected = f", {self.ejected} ejected" if self.ejected else ""
        panic = ", in panic: all may be chosen" if self.panics else ""
        name = "a group" if self.name is None else f"group {self.name}"
        return f"{name} ({len(self.backends)} backends{ejected}{panic}: {told})"


@dataclass(slots=True)
class Counters:
    """Counts since the pool was made.

    C{leases == releases + finishes + forgotten + revoked + detached +} the leases held now, and
    C{connects == closes + detached +} the connections open now.
    """

    connects: int = 0
    """Connections that were made and prepared."""
    connect_failures: int = 0
    """Attempts that failed, timed out, or ended as soon as they were connected."""
    closes: int = 0
    """Connections that have ended, for whatever reason."""
    leases: int = 0
    """Leases given."""
    releases: int = 0
    """Leases settled with C{release()}."""
    finishes: int = 0
    """Leases settled with C{finished()}."""
    forgotten: int = 0
    """Leases reclaimed after they were garbage-collected."""
    revoked: int = 0
    """Leases that were held for longer than the policy's C{hold_limit}."""
    detached: int = 0
    """Leases whose connection left the pool, by C{detach()}."""
    unclean: int = 0
    """Leases that were released with something under way, as the policy's C{clean} said. They count
    as finished."""
    overdue: int = 0
    """Leases that were held for longer than the policy's C{leak_after}, whether settled or not."""
    timeouts: int = 0
    """Requests that reached their deadline in the queue."""
    cancels: int = 0
    """Requests in the queue that were cancelled by their callers, or because their owners ended."""
    rejections: int = 0
    """Requests refused at once with a C{Rejected} or C{Closed}."""

    def __str__(self) -> str:
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        told = [f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count]
        return ", ".join(told) or "nothing yet"

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )
