"""C{Servers}: finds the managers of a pool for the queues of its groups."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from kolus.errors import Draining
from kolus.interfaces import IServesGroups

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends
    from kolus.group.queue import GroupQueue
    from kolus.manager import Managers
    from kolus.policy import Policy

__all__ = ["Servers"]


class Servers:
    """Finds the managers that can serve the queues of groups. It has no state of its own.

    @ivar index: the queues of the pool's groups and lists.
    @ivar arrivals: numbers all requests of the pool.
    """

    def __init__(self, managers: Managers) -> None:
        self._managers = managers
        self._records = managers.records
        self.index = managers.records.group_queues
        self.arrivals = managers.records.arrivals

    @property
    def policy(self) -> Policy:
        """The pool's policy."""
        return self._managers.policy

    def find(self, ident: Hashable, backend: Backend) -> Any:
        """The running manager of a backend for C{ident}, if it serves groups; else C{None}."""
        manager = self._managers.at.get(backend.key, {}).get(ident)
        return manager if IServesGroups.providedBy(manager) else None

    def make(self, ident: Hashable, backend: Backend) -> Any:
        """The manager of a backend for C{ident}; made if there is none.

        @raise KolusError: it cannot be made, or it takes no requests of groups.
        """
        manager = self._managers.provide(ident, backend)
        if IServesGroups.providedBy(manager) and manager.admission.accepts(ident):
            return manager
        raise Draining(f"{backend} gives no new leases to those who wait for several")

    def may_make(self, backend: Backend) -> bool:
        """Whether a new ident's manager could be made, could connect at once, and would displace no
        other manager."""
        record = self._records.find(backend.key)
        if record is None:
            return self._managers.may_make(backend) and self._records.budget.obtainable() > 0
        return self._managers.may_make(backend) and record.has_room()

    def of(self, ident: Hashable, backends: Backends) -> Iterator[Any]:
        """The running managers of these backends that can serve the queues of C{ident}."""
        found = [self.find(ident, each.backend) for each in self._records.among(backends)]
        return iter([each for each in found if each is not None])

    def await_room(self, queue: GroupQueue, backend: Backend) -> bool:
        """Tell a queue when there is room at a backend, where there is none now.

        @return: whether it lacks only a slot of the pool.
        """
        server, record = self.find(queue.ident, backend), self._records.find(backend.key)
        if server is not None:
            server.placements.await_room(queue)
        elif record is None and self._records.budget.limit is not None:
            record = self._records.of(backend, self._managers.policy)
        if server is None and record is not None:  # other idents or backends have all the slots
            record.turns.await_room(None, queue)
        return record is not None and record.binding_pool_limit() is not None

    def ask_pool(self, backend: Backend) -> bool:
        """Have a backend ask for a slot of the pool.

        @return: whether it waits for one.
        """
        record = self._records.find(backend.key)
        if record is None or record.binding_pool_limit() is None:
            return False
        record.budget.want(record)
        return record in record.budget.wanting

    def forget(self, queue: GroupQueue) -> None:
        """Tell a queue nothing any more."""
        for record in self._records.among(queue.backends):
            record.turns.forget(queue)
        for server in self.of(queue.ident, queue.backends):
            server.placements.forget(queue)

    def crowded(self, ident: Hashable, backends: Backends) -> Iterator[Backend]:
        """The full backends where the manager for C{ident} may serve, or may be made, and other
        managers have some of the connections. A waiter placed there gets a slot from these."""
        for record in self._records.among(backends):
            if record.unused() > 0:
                continue
            server = self.find(ident, record.backend)
            serves = self._managers.may_make(record.backend) if server is None else server.serves()
            others = [each for each in record.members if each is not server]
            shares = any(each.connections.all for each in others)
            if serves and (shares or record.binding_pool_limit() is not None):
                yield record.backend

    def last_errors(self, backends: Backends) -> Iterator[tuple[Backend, BaseException]]:
        """The last error of each of these backends whose last attempt to connect failed."""
        for record in self._records.among(backends):
            if record.attempts.last_error is not None:
                yield record.backend, record.attempts.last_error

    def attempt_due(self, backend: Backend) -> float:
        """The time of the next attempt to connect to a backend, on the clock; minus infinity if it
        was never used."""
        record = self._records.find(backend.key)
        return -math.inf if record is None else record.attempts.due_at
