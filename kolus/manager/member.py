"""C{Member}: what the record of a backend needs of each manager that draws on it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

from kolus.events import Why

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.lease import Lease
    from kolus.watching import Owner, Ownership

__all__ = ["Holdings", "Member"]


class Holdings(Protocol):
    """The connections of a member."""

    all: Any
    idle: Any
    connecting: Any
    closing: Any

    def oldest_idle(self) -> float:
        """Since when the one is idle that is idle longest; infinity if none is."""

    def close_oldest_idle(self, why: Why) -> None: ...
    def unleased(self) -> int:
        """How many nobody has: they are idle, or being made."""

    def shed(self, count: int) -> None:
        """Close so many of those that nobody has, as the limit was lowered."""


class Member(Protocol):
    """A manager that draws on a record.

    @ivar smooth: whether nothing was out of the ordinary when it last looked. The record sets it to
        C{False} when anything changes.
    @ivar passes_on: the same, but for requests that wait in its own queue.
    """

    ident: Hashable
    smooth: bool
    passes_on: bool

    @property
    def connections(self) -> Holdings: ...
    def wants_connection(self) -> bool:
        """Whether one more connection would be of use to it, and it may be made now."""

    def demand(self) -> int:
        """How many requests it connects for."""

    @property
    def placements(self) -> Any:
        """What it does for waiters of groups: L{Placements}."""

    def ownership_of(self, owner: object) -> Ownership | None:
        """What an owner has of it, if anything."""

    def connections_changed(self) -> None:
        """Look again what can be done: a slot is free."""

    def limit_changed(self) -> None: ...
    def shrinking_changed(self) -> None:
        """The backend has more connections than its limit, or no longer."""

    def is_called(self, backend: Backend) -> None:
        """What messages call its backend, and what else is said of it, has changed."""

    def health_changed(self) -> None:
        """The backend is well, or not any more."""

    def try_connect(self, ident: Hashable, owner: Owner | None = None) -> Lease[Any] | None:
        """See C{IKolusManager}."""

    def serves(self) -> bool:
        """Whether it gives leases now."""

    def load(self) -> int:
        """What is leased and waits."""

    def ready(self) -> int:
        """What is idle and can be leased."""

    def room(self) -> int:
        """As C{Status.room}."""
