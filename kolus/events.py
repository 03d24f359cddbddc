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
    "Settled",
    "TimedOut",
    "Why",
]


class Why(Enum):
    """Why the pool ended a connection that was ready.

    @cvar FINISHED: its lease was settled with C{finished()}, or its lessee closed the connection.
    @cvar FORGOTTEN: its lease was garbage-collected before it was settled.
    @cvar UNCLEAN: its lease was released while something was under way, as the policy's C{clean}
        said.
    @cvar REVOKED: a lease of it was held for longer than the policy's C{hold_limit}.
    @cvar IDLE: it was idle for the idle time-out.
    @cvar SURPLUS: as many as C{max_idle} were idle already when it came home.
    @cvar LIFETIME: it reached its lifetime, or was replaced shortly before.
    @cvar USES: it was leased C{max_uses} times.
    @cvar UNFIT: its check or reset failed, C{clean} raised, or its own protocol closed it while it
        was idle.
    @cvar OUT_OF_STEP: its peer sent data or closed its direction while the connection was idle, or
        did not take all that a lessee had written before it released it.
    @cvar INVALIDATED: it was open when C{invalidate()} was called.
    @cvar RESIZED: the limit became smaller.
    @cvar DISPLACED: it was closed to make room for a connection of another ident or backend, or for
        a fresh one.
    @cvar CLOSED: its manager was drained or closed.
    """

    FINISHED = "finished"
    FORGOTTEN = "forgotten"
    UNCLEAN = "not clean"
    REVOKED = "revoked"
    IDLE = "idle"
    SURPLUS = "surplus"
    LIFETIME = "lifetime"
    USES = "uses"
    UNFIT = "unfit"
    OUT_OF_STEP = "out of step"
    INVALIDATED = "invalidated"
    RESIZED = "resized"
    DISPLACED = "displaced"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Event:
    """An event at one manager, or at one backend.

    @ivar backend: the backend.
    @ivar ident: the manager's ident; C{None} if the event is about the backend.
    """

    backend: Backend
    ident: Hashable


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """A connection was made and prepared.

    @ivar took: seconds from the beginning of the attempt to that.
    """

    took: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ConnectFailure(Event):
    """An attempt to connect ended without a usable connection.

    @ivar reason: the error of the attempt.
    @ivar retry_in: seconds until the next attempt is due.
    """

    reason: BaseException
    retry_in: float


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """An attempt to connect succeeded, and the one before it had failed.

    @ivar after: seconds since the first of the failed attempts.
    """

    after: float


@dataclass(frozen=True, slots=True)
class Leased(Event):
    """A lease was given.

    @ivar reused: whether the connection had been leased before.
    @ivar waited: seconds that the request was in the queue; 0.0 if it was served at once.
    @ivar queued: whether the request was in the queue, even if it was served in the same instant.
    """

    reused: bool
    waited: float
    queued: bool = False


@dataclass(frozen=True, slots=True)
class Settled(Event):
    """A lease has ended: the base class of the events that say how.

    @ivar held: seconds from the lease to its end.
    """

    held: float


@dataclass(frozen=True, slots=True)
class Released(Settled):
    """A lease was settled with C{release()}."""


@dataclass(frozen=True, slots=True)
class Finished(Settled):
    """A lease was settled with C{finished()}.

    @ivar unclean: whether it was released, but the policy's C{clean} said that something was under
        way.
    """

    unclean: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Forgotten(Settled):
    """A lease was garbage-collected before it was settled, and is reclaimed."""


@dataclass(frozen=True, slots=True)
class Revoked(Settled):
    """A lease was held for longer than the policy's C{hold_limit}, and its connection is ended."""


@dataclass(frozen=True, slots=True)
class Detached(Settled):
    """A lease was settled with C{detach()}: its connection has left the pool."""


@dataclass(frozen=True, slots=True)
class Overdue(Event):
    """A lease has been held for so long that it may be a leak; reported once for each lease.

    @ivar held: seconds since the lease was given.
    """

    held: float


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """A connection that was ready has ended, but not by the pool.

    @ivar reason: the reason that Twisted gave to C{connectionLost}.
    """

    reason: BaseException


@dataclass(frozen=True, slots=True)
class Retired(Event):
    """A connection that was ready has ended because the pool ended it.

    @ivar why: why the pool ended it.
    """

    why: Why


@dataclass(frozen=True, slots=True)
class TimedOut(Event):
    """A request reached its deadline in the queue.

    @ivar waited: seconds from the request to its deadline.
    """

    waited: float


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """A request in the queue was cancelled by its caller, or because its owner had ended.

    @ivar waited: seconds from the request to that.
    """

    waited: float


@dataclass(frozen=True, slots=True)
class Rejection(Event):
    """A request was refused at once with a C{Rejected} or C{Closed}.

    @ivar reason: the error.
    """

    reason: BaseException


@dataclass(frozen=True, slots=True)
class Ejected(Event):
    """The backend was ejected: balancers do not choose it. The ident is C{None}.

    @ivar reason: why it was ejected.
    @ivar seconds: seconds until a probe is due; infinity: until C{admit()} is called.
    """

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ProbeDue(Event):
    """An ejected backend may get one request, as a probe. The ident is C{None}."""


@dataclass(frozen=True, slots=True)
class Admitted(Event):
    """Balancers may choose an ejected backend again. The ident is C{None}.

    @ivar reason: why it was admitted.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """The manager gives no leases until it is resumed."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The manager gives leases again."""


@dataclass(frozen=True, slots=True)
class Resized(Event):
    """The manager has another limit.

    @ivar limit: the new limit of connections.
    """

    limit: int


Observer = Callable[[Event], object]
"""Is called with each event; the result is ignored. A coroutine, a generator or another awaitable
counts as an error, since nobody waits for it."""
