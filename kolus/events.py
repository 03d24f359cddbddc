"""What happens in a pool, told to its observers as frozen values.

An observer is a callable that takes one event. It is called after all state has changed, so it
may call straight back into the pool; one that raises is reported and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = [
    "Admitted",
    "ConnectFailure",
    "Connected",
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
    "Rejection",
    "Released",
    "Resized",
    "Resumed",
    "Retired",
    "TimedOut",
    "Why",
]


class Why(Enum):
    """Why the pool has ended a connection that was ready."""

    FINISHED = "finished"
    """Its lease was settled with C{finished()}, or its lessee had closed it."""
    FORGOTTEN = "forgotten"
    """Nobody had settled its lease."""
    IDLE = "idle"
    """Nobody leased it for the idle timeout."""
    LIFETIME = "lifetime"
    """It was older than its lifetime, or about to be and replaced."""
    USES = "uses"
    """It was leased as often as one connection may be."""
    UNFIT = "unfit"
    """Its check or its reset failed, or its protocol closed it while it was idle."""
    OUT_OF_STEP = "out of step"
    """It was idle, and its peer sent or closed something all the same."""
    INVALIDATED = "invalidated"
    """Everything open at that time was to be replaced."""
    RESIZED = "resized"
    """The limit became smaller."""
    DISPLACED = "displaced"
    """It made way for a connection of another ident."""
    CLOSED = "closed"
    """Its manager was drained or closed."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one manager."""

    backend: Backend
    ident: Hashable


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """A connection was made and prepared."""


@dataclass(frozen=True, slots=True)
class ConnectFailure(Event):
    """An attempt to connect ended without a usable connection."""

    reason: BaseException
    retry_in: float
    """Seconds until the next attempt is due."""


@dataclass(frozen=True, slots=True)
class Leased(Event):
    """A lease was given."""

    reused: bool
    """Whether its connection had been leased before."""
    waited: float
    """Seconds that the request was in the queue; 0.0 if it was served at once."""


@dataclass(frozen=True, slots=True)
class Released(Event):
    """A lease was settled with C{release()}."""

    held: float
    """Seconds from lease to release."""


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """A lease was settled with C{finished()}."""

    held: float
    """Seconds from lease to settling."""


@dataclass(frozen=True, slots=True)
class Forgotten(Event):
    """A lease was reclaimed that nobody had settled and nobody referred to."""

    held: float
    """Seconds from lease to reclaim."""


@dataclass(frozen=True, slots=True)
class Overdue(Event):
    """A lease has been held for so long that it may have leaked; told once of each lease."""

    held: float
    """Seconds since it was given."""


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """A connection that was ready has ended, and the pool had not told it to."""

    reason: BaseException


@dataclass(frozen=True, slots=True)
class Retired(Event):
    """A connection that was ready has ended because the pool told it to."""

    why: Why


@dataclass(frozen=True, slots=True)
class TimedOut(Event):
    """A request waited in vain."""

    waited: float
    """Seconds from the request to its deadline."""


@dataclass(frozen=True, slots=True)
class Rejection(Event):
    """A request was refused at once with a C{Rejected} or C{Closed}."""

    reason: BaseException


@dataclass(frozen=True, slots=True)
class Ejected(Event):
    """Because of its health the backend is not chosen any more; its ident is C{None}."""

    reason: str
    seconds: float
    """How long, until it is probed; infinity: until it is admitted by hand."""


@dataclass(frozen=True, slots=True)
class ProbeDue(Event):
    """An ejected backend may be given one request, to see how it is; its ident is C{None}."""


@dataclass(frozen=True, slots=True)
class Admitted(Event):
    """A backend that was ejected is chosen again; its ident is C{None}."""

    reason: str


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """Until it is resumed, the manager gives no leases."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The manager gives leases again."""


@dataclass(frozen=True, slots=True)
class Resized(Event):
    """The manager has another limit."""

    limit: int
    """Most connections from now on."""


Observer = Callable[[Event], object]
