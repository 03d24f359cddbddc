"""C{Member}: what the record of a backend needs of each of its managers."""

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
        """Since when the longest idle connection is idle, on the clock; infinity if none is."""

    def close_oldest_idle(self, why: Why) -> None: ...
    def unleased(self) -> int:
        """The number of connections that are idle or being made."""

    def shed(self, count: int) -> None:
        """Close so many connections that are idle or being made: the limit was lowered."""


class Member(Protocol):
    """A manager of a record.

    @ivar smooth: whether leases take the fast path. The record sets it to C{False} when anything
        changes.
    """

    ident: Hashable
    smooth: bool

    @property
    def connections(self) -> Holdings: ...
    def wants_connection(self) -> bool:
        """Whether it needs one more connection, and may make it now."""

    def demand(self) -> int:
        """The number of its waiters, those of groups that are placed here included."""

    @property
    def placements(self) -> Any:
        """The waiters of groups that are placed here: L{Placements}."""

    def ownership_of(self, owner: object) -> Ownership | None:
        """The ownership of an owner at this manager, if there is one."""

    def connections_changed(self) -> None:
        """A slot is free, or something else has changed: decide again."""

    def limit_changed(self) -> None: ...
    def shrinking_changed(self) -> None:
        """The backend has come to have more connections than its limit, or no longer has."""

    def is_called(self, backend: Backend) -> None:
        """The name or other values of its backend have changed."""

    def health_changed(self) -> None:
        """The backend has become well, or is not well any more."""

    def try_connect(self, ident: Hashable, owner: Owner | None = None) -> Lease[Any] | None:
        """See C{IKolusManager}."""

    def serves(self) -> bool:
        """Whether it gives leases now."""

    def load(self) -> int:
        """The number of leases and waiters."""

    def ready(self) -> int:
        """The number of leases that could be given at once."""

    def room(self) -> int:
        """As C{Status.room}."""
