"""The events of a pool, as frozen values for its observers.

An observer is a callable that takes one event. It is called after all state has changed, so it may
call methods of the pool. An observer that raises is logged and removed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = [
    "Admitted",
    "Cancelled",
    "ConnectFailure",
    "Connected",
    "Detached",
    "Ejected",
    "Event",
    "Finished",
    "Forgotten",
    "Leased",
    "Lost",
    "Observer",
    "Overdue",
    "Paused",
    "ProbeDue",
    "Recovered",
    "Rejection",
    "Released",
    "Resized",
    "Resumed",
    "Retired",
    "Revoked",
    "TimedOut",
    "Why",
]


class Why(Enum):
    """Why the pool ended a connection that was ready."""

    FINISHED = "finished"
    """Its lease was settled with C{finished()}, or its lessee closed the connection."""
    FORGOTTEN = "forgotten"
    """Its lease was garbage-collected before it was settled."""
    UNCLEAN = "not clean"
    """Its lease was released while something was under way, as the policy's C{clean} said."""
    REVOKED = "revoked"
    """A lease of it was held for longer than the policy's C{hold_limit}."""
    IDLE = "idle"
    """It was idle for the idle time-out."""
    SURPLUS = "surplus"
    """As many as C{max_idle} were idle already when it came home."""
    LIFETIME = "lifetime"
    """It reached its lifetime, or was replaced shortly before."""
    USES = "uses"
    """It was leased C{max_uses} times."""
    UNFIT = "unfit"
    """Its check or reset failed, C{clean} raised, or its own protocol closed it while it was
    idle."""
    OUT_OF_STEP = "out of step"
    """Its peer sent data or closed its direction while the connection was idle, or did not take all
    that a lessee had written before it released it."""
    INVALIDATED = "invalidated"
    """It was open when C{invalidate()} was called."""
    RESIZED = "resized"
    """The limit became smaller."""
    DISPLACED = "displaced"
    """It was closed to make room for a connection of another ident, or for a fresh one."""
    CLOSED = "closed"
    """Its manager was drained or closed."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event at one manager, or at one backend."""

    backend: Backend
    ident: Hashable
    """The manager's ident; C{None} if the event is about the backend."""


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """A connection was made and prepared."""


@dataclass(frozen=True, slots=True)
class ConnectFailure(Event):
    """An attempt to connect ended without a usable connection."""

    reason: BaseException
    """The error of the attempt."""
    retry_in: float
    """Seconds until the next attempt is due."""


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """An attempt to connect succeeded, and the one before it had failed."""

    after: float
    """Seconds since the first of the failed attempts."""


@dataclass(frozen=True, slots=True)
class Leased(Event):
    """A lease was given."""

    reused: bool
    """Whether the connection had been leased before."""
    waited: float
    """Seconds that the request was in the queue; 0.0 if it was served at once."""
    queued: bool = False
    """Whether the request was in the queue, even if it was served in the same instant."""


@dataclass(frozen=True, slots=True)
class Released(Event):
    """A lease was settled with C{release()}."""

    held: float
    """Seconds from the lease to the release."""


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """A lease was settled with C{finished()}."""

    held: float
    """Seconds from the lease to its end."""
    unclean: bool = field(default=False, compare=False)
    """Whether it was released, but the policy's C{clean} said that something was under way."""


@dataclass(frozen=True, slots=True)
class Forgotten(Event):
    """A lease was garbage-collected before it was settled, and is reclaimed."""

    held: float
    """Seconds from the lease to its reclaim."""


@dataclass(frozen=True, slots=True)
class Revoked(Event):
    """A lease was held for longer than the policy's C{hold_limit}, and its connection is ended."""

    held: float
    """Seconds since the lease was given."""


@dataclass(frozen=True, slots=True)
class Detached(Event):
    """A lease was settled with C{detach()}: its connection has left the pool."""

    held: float
    """Seconds from the lease to that."""


@dataclass(frozen=True, slots=True)
class Overdue(Event):
    """A lease has been held for so long that it may be a leak; reported once for each lease."""

    held: float
    """Seconds since the lease was given."""


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """A connection that was ready has ended, but not by the pool."""

    reason: BaseException
    """The reason that Twisted gave to C{connectionLost}."""


@dataclass(frozen=True, slots=True)
class Retired(Event):
    """A connection that was ready has ended because the pool ended it."""

    why: Why
    """Why the pool ended it."""


@dataclass(frozen=True, slots=True)
class TimedOut(Event):
    """A request reached its deadline in the queue."""

    waited: float
    """Seconds from the request to its deadline."""


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """A request in the queue was cancelled by its caller, or because its owner had ended."""

    waited: float
    """Seconds from the request to that."""


@dataclass(frozen=True, slots=True)
class Rejection(Event):
    """A request was refused at once with a C{Rejected} or C{Closed}."""

    reason: BaseException
    """The error."""


@dataclass(frozen=True, slots=True)
class Ejected(Event):
    """The backend was ejected: balancers do not choose it. The ident is C{None}."""

    reason: str
    """Why it was ejected."""
    seconds: float
    """Seconds until a probe is due; infinity: until C{admit()} is called."""


@dataclass(frozen=True, slots=True)
class ProbeDue(Event):
    """An ejected backend may get one request, as a probe. The ident is C{None}."""


@dataclass(frozen=True, slots=True)
class Admitted(Event):
    """Balancers may choose an ejected backend again. The ident is C{None}."""

    reason: str
    """Why it was admitted."""


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """The manager gives no leases until it is resumed."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The manager gives leases again."""


@dataclass(frozen=True, slots=True)
class Resized(Event):
    """The manager has another limit."""

    limit: int
    """The new limit of connections."""


Observer = Callable[[Event], object]
"""Is called with each event; the result is ignored."""
