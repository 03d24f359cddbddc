"""What happens in a pool, told to its observers as frozen values.

An observer is a callable that takes one event. It is called after all state has changed, so it
may call straight back into the pool; one that raises is reported and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from kolus.backend import Backend

__all__ = [
    "ConnectFailure",
    "Connected",
    "Event",
    "Finished",
    "Forgotten",
    "Leased",
    "Lost",
    "Observer",
    "Rejection",
    "Released",
    "TimedOut",
]


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
class Lost(Event):
    """A connection has ended that the pool had not told to."""

    reason: BaseException


@dataclass(frozen=True, slots=True)
class TimedOut(Event):
    """A request waited in vain."""

    waited: float
    """Seconds from the request to its deadline."""


@dataclass(frozen=True, slots=True)
class Rejection(Event):
    """A request was refused at once."""

    reason: BaseException


Observer = Callable[[Event], object]
