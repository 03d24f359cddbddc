"""The current numbers of a backend (C{Status}), and its counts so far (C{Counters})."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.interfaces import IKolusManager

__all__ = ["Counters", "GroupStatus", "State", "Status"]


class State(Enum):
    """What the backend does with a new request.

    @cvar ABSENT: it has no manager: the first request makes one.
    @cvar OPEN: it serves requests.
    @cvar EJECTED: it is open, but balancers do not choose it, because of its health.
    @cvar DUE: it is ejected, and may get one request as a probe.
    @cvar PAUSED: requests wait until it is resumed.
    @cvar DRAINING: it gives no new leases; present leases may still be held.
    @cvar CLOSED: its manager is closed.
    """

    ABSENT = "absent"
    OPEN = "open"
    EJECTED = "ejected"
    DUE = "due"
    PAUSED = "paused"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Status:
    """The numbers of one backend's manager at the time of the call.

    @ivar backend: the backend.
    @ivar manager: the manager; C{None} if there is none, or if there is one for each ident.
    @ivar ident: the manager's ident; C{None} if C{manager} is C{None}.
    @ivar idle: idle connections, or free slots on connections; C{None} without a manager.
    @ivar leased: leased connections, including those in a check or in a reset.
    @ivar connecting: connections that are being made and prepared.
    @ivar unused: how many more connections the limits of backend and pool allow. C{None} without a
        manager, unless the pool's limit allows fewer than the backend's.
    @ivar waiting: requests in the queue.
    @ivar limit: most connections at a time; for shared connections, most leases.
    @ivar state: what the backend does with a new request.
    @ivar ramp: the share of the backend's weight that counts now: less than 1.0 in slow start.
    @ivar detached: connections that have left the pool and keep their slots until they end.
    """

    backend: Backend
    manager: IKolusManager | None
    ident: Hashable
    idle: int | None
    leased: int
    connecting: int
    unused: int | None
    waiting: int
    limit: int
    state: State
    ramp: float = 1.0
    detached: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        # A manager belongs to its process.
        return Status, (
            self.backend,
            None,
            *[getattr(self, each.name) for each in fields(self)[2:]],
        )

    def __copy__(self) -> Status:
        return self

    def __deepcopy__(self, memo: object) -> Status:
        return self

    @property
    def takes_requests(self) -> bool:
        """Whether a balancer may choose it: its state is C{OPEN}, C{ABSENT} or C{DUE}."""
        return self.state is State.OPEN or self.state is State.ABSENT or self.state is State.DUE

    @property
    def outstanding(self) -> int:
        """The number of leases and waiters."""
        return self.leased + self.waiting

    @property
    def load(self) -> float:
        """The pressure; infinity if it takes no requests. Otherwise an ejected backend, which has
        no leases and no waiters, would look idle."""
        return self.pressure if self.takes_requests else math.inf

    @property
    def pressure(self) -> float:
        """The leases and waiters plus one, divided by the current weight."""
        return (self.outstanding + 1) / (self.backend.weight * self.ramp)

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
    """The numbers of one group; out of date as soon as you have it.

    @ivar name: what it is called.
    @ivar backends: the numbers of its backends, in the source's order.
    @ivar waiting: requests that any of the backends may serve, each of which is counted at one of
        them, too; or that wait for the first list of backends.
    @ivar ejected: how many of its backends are ejected.
    @ivar panics: whether too many are ejected, so that all may be chosen.
    @ivar panicked: how many requests were given to an ejected backend for that reason.
    @ivar oldest_wait: seconds that the oldest of the requests has waited that any of the backends
        may serve; C{None}: there is none.
    """

    name: str | None
    backends: tuple[Status, ...]
    waiting: int
    ejected: int
    panics: bool
    panicked: int
    oldest_wait: float | None = None

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

    @ivar connects: connections that were made and prepared.
    @ivar connect_failures: attempts that failed, timed out, or ended as soon as they were
        connected.
    @ivar closes: connections that have ended, for whatever reason.
    @ivar leases: leases given.
    @ivar releases: leases settled with C{release()}.
    @ivar finishes: leases settled with C{finished()}.
    @ivar forgotten: leases reclaimed after they were garbage-collected.
    @ivar revoked: leases that were held for longer than the policy's C{hold_limit}.
    @ivar detached: leases whose connection left the pool, by C{detach()}.
    @ivar unclean: leases that were released with something under way, as the policy's C{clean}
        said. They count as finished.
    @ivar overdue: leases that were held for longer than the policy's C{leak_after}, whether settled
        or not.
    @ivar timeouts: requests that reached their deadline in the queue.
    @ivar cancels: requests in the queue that were cancelled by their callers, or because their
        owners ended.
    @ivar rejections: requests refused at once with a C{Rejected} or C{Closed}.
    """

    connects: int = 0
    connect_failures: int = 0
    closes: int = 0
    leases: int = 0
    releases: int = 0
    finishes: int = 0
    forgotten: int = 0
    revoked: int = 0
    detached: int = 0
    unclean: int = 0
    overdue: int = 0
    timeouts: int = 0
    cancels: int = 0
    rejections: int = 0

    def __str__(self) -> str:
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        told = [f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count]
        return ", ".join(told) or "nothing yet"

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )
