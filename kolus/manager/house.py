"""C{House} and C{Server}: what a queue that several backends share needs of a pool."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from kolus.backend import Backend
from kolus.lease import Lease
from kolus.manager.waiters import Waiter
from kolus.watching import Owner

if TYPE_CHECKING:
    from kolus.manager.shared_queue import SharedQueue

__all__ = ["House", "Server"]


class Server(Protocol):
    """A manager that can serve a shared queue."""

    backend: Backend
    ident: Hashable

    @property
    def waiting(self) -> Mapping[Waiter[Any], None]: ...
    def try_connect(self, ident: Hashable, owner: Owner | None = None) -> Lease[Any] | None: ...
    def adopt(self, waiter: Waiter[Any]) -> None:
        """Let a waiter wait here from now on."""

    def surplus(self) -> int:
        """For how many requests more it may connect at once; below 0: how many wait for others'
        leases to be settled."""

    def has_leases(self) -> bool:
        """Whether something may come home here."""

    def is_connecting(self) -> bool:
        """Whether an attempt is under way, or only waits for a slot that is being freed."""

    def is_ejected(self) -> bool: ...
    def has_idle(self) -> bool: ...
    def connections_changed(self) -> None: ...
    def fail_deadlocked(self, owner: Owner) -> None:
        """Fail the waiters of an owner that holds all that could ever serve them."""

    def is_all_held_by(self, owner: Owner) -> bool:
        """Whether an owner has everything that this manager can lease."""


class House(Protocol):
    """Where the managers are: a pool's."""

    def server(self, ident: Hashable, backend: Backend) -> Server | None:
        """The manager of a backend, if one runs that can serve C{ident} and share queues."""

    def make_server(self, ident: Hashable, backend: Backend) -> Server:
        """The same; made if there is none.

        @raise KolusError: there cannot be any.
        """

    def may_make(self, ident: Hashable, backend: Backend) -> bool:
        """Whether a manager could be made now that connects at once."""

    def crowded(self, queue: SharedQueue) -> Iterator[Backend]:
        """Of its backends those where who waits waits for what other idents have, or those who have
        left; a manager is made there if there is none."""

    def attempt_due(self, backend: Backend) -> float:
        """From when on it may be tried to connect to a backend, on the clock."""

    def pauses_attempts(self) -> bool:
        """Whether there is a pause after an attempt to connect that failed."""

    def attach(self, queue: SharedQueue) -> None:
        """Let the managers of its backends serve a queue."""

    def detach(self, queue: SharedQueue) -> None: ...
    def servers(self, queue: SharedQueue) -> Iterator[Server]:
        """The managers that run and can serve a queue."""

    def last_errors(self, queue: SharedQueue) -> Iterator[tuple[Backend, BaseException]]:
        """Of its backends where the last attempt to connect failed, what it failed with."""
