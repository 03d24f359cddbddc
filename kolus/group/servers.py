"""C{Servers}: the managers of a pool, as the queues of its groups see them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from kolus.errors import Draining
from kolus.interfaces import IServesGroups

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends
    from kolus.manager import Managers

if TYPE_CHECKING:
    from kolus.group.queue import GroupQueue

__all__ = ["Servers"]


class Servers:
    """Finds the managers that can serve the queues of groups; it has no state of its own.

    @ivar index: the queues that there are.
    """

    def __init__(self, managers: Managers) -> None:
        self._managers = managers
        self._records = managers.records
        self.index = managers.records.group_queues

    def find(self, ident: Hashable, backend: Backend) -> Any:
        """The manager of a backend, if one runs that serves C{ident} and groups; else C{None}."""
        manager = self._managers.at.get(backend.key, {}).get(ident)
        return manager if IServesGroups.providedBy(manager) else None

    def make(self, ident: Hashable, backend: Backend) -> Any:
        """The same; made if there is none.

        @raise KolusError: there cannot be any.
        """
        manager = self._managers.provide(ident, backend)
        if IServesGroups.providedBy(manager) and manager.ident == ident:
            return manager
        raise Draining(f"{backend} gives no new leases to those who wait for several")

    def may_make(self, backend: Backend) -> bool:
        """Whether a manager for an ident that has none there could be made that connects at once
        and displaces nobody."""
        record = self._records.find(backend.key)
        return self._managers.may_make(backend) and (record is None or record.has_room())

    def of(self, ident: Hashable, backends: Backends) -> Iterator[Any]:
        """The managers of these backends that run and can serve C{ident}'s queues."""
        found = [self.find(ident, each.backend) for each in self._records.among(backends)]
        return iter([each for each in found if each is not None])

    def await_room(self, queue: GroupQueue, backend: Backend) -> None:
        """Tell a queue when there is room at a backend, where there is none now."""
        server, record = self.find(queue.ident, backend), self._records.find(backend.key)
        if server is not None:
            server.placements.await_room(queue)
        elif record is not None:  # other idents have all its slots
            record.turns.outside[queue] = None

    def forget(self, queue: GroupQueue) -> None:
        """Tell a queue nothing any more."""
        for record in self._records.among(queue.backends):
            record.turns.outside.pop(queue, None)
        for server in self.of(queue.ident, queue.backends):
            server.placements.forget(queue)

    def crowded(self, ident: Hashable, backends: Backends) -> Iterator[Backend]:
        """Of these backends those whose slots are all taken, some by other managers than the one
        for C{ident}, so that who waits there waits for what these have."""
        for record in self._records.among(backends):
            if record.unused() > 0:
                continue
            server = self.find(ident, record.backend)
            serves = self._managers.may_make(record.backend) if server is None else server.serves()
            others = [each for each in record.members if each is not server]
            if serves and any(each.connections.all for each in others):
                yield record.backend

    def last_errors(self, backends: Backends) -> Iterator[tuple[Backend, BaseException]]:
        """Of these backends where the last attempt to connect failed, what it failed with."""
        for record in self._records.among(backends):
            if record.attempts.last_error is not None:
                yield record.backend, record.attempts.last_error

    def attempt_due(self, backend: Backend) -> float:
        """From when on it may be tried to connect to a backend, on the clock."""
        record = self._records.find(backend.key)
        return -math.inf if record is None else record.attempts.due_at

    def is_paused_after_failure(self) -> bool:
        """Whether there is a pause after an attempt to connect that failed."""
        return self._managers.policy.backoff is not None
