"""C{GroupManagers}: finds the managers of a pool for the queues of its groups."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from kolus.errors import Draining
from kolus.interfaces import IServesGroups

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends
    from kolus.group.openings import Openings
    from kolus.manager import Managers
    from kolus.policy import Policy

__all__ = ["GroupManagers"]


class GroupManagers:
    """Finds the managers that can serve the queues of groups. It has no state of its own.

    @ivar index: the queues of the pool's groups and lists, and the managers that serve them.
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
        return self._managers.may_make(backend) and record.room.is_ready()

    def may_serve(self, ident: Hashable, backend: Backend) -> bool:
        """Whether the manager of a backend for C{ident} gives leases, or could be made."""
        manager = self.find(ident, backend)
        return self._managers.may_make(backend) if manager is None else bool(manager.serves())

    def of(self, ident: Hashable, backends: Backends) -> Iterator[Any]:
        """The running managers of these backends that can serve the queues of C{ident}."""
        its = self.index.managers_of(ident)
        found = [each for each in its if each.backend.key in backends]
        return iter([each for each in found if self.find(ident, each.backend) is each])

    def sick(self, ident: Hashable, backends: Backends) -> Iterator[Any]:
        """Those of them whose backends are not well."""
        sick = self._records.sick.values()
        found = [self.find(ident, each.backend) for each in sick if each.backend.key in backends]
        return iter([each for each in found if each is not None])

    def await_room(self, openings: Openings, backend: Backend) -> None:
        """Tell when there is room at a backend, where other idents or backends have all the slots.
        C{forget_room} ends that."""
        record = self._records.find(backend.key)
        if record is None and self._records.budget.limit is not None:
            record = self._records.of(backend, self._managers.policy)
        if record is not None:
            record.turns.await_room(None, openings)

    def forget_room(self, openings: Openings, key: Hashable) -> None:
        record = self._records.find(key)
        if record is not None:
            record.turns.forget(openings)

    def pool_has_slots(self) -> bool:
        """Whether the pool has a limit, and is below it."""
        budget = self._records.budget
        return budget.limit is not None and budget.unused() > 0

    def pool_is_full(self) -> bool:
        """Whether the pool has a limit, and has reached it."""
        budget = self._records.budget
        return budget.limit is not None and budget.unused() <= 0

    def ask_pool(self, backend: Backend) -> bool:
        """Have a backend ask for a slot of the pool.

        @return: whether it waits for one.
        """
        record = self._records.find(backend.key)
        if record is None or record.room.binding_pool_limit() is None:
            return False
        record.budget.want(record)
        return record in record.budget.wanting

    def crowded(self, ident: Hashable, backends: Backends) -> Iterator[Backend]:
        """The full backends where the manager for C{ident} may serve, or may be made, and other
        managers have some of the connections. A waiter placed there gets a slot from these."""
        for record in self._records.among(backends):
            if record.room.unused() > 0:
                continue
            manager = self.find(ident, record.backend)
            own = 0 if manager is None else len(manager.connections.all)
            shares = len(record.all) - len(record.detached) > own
            may_get_one = shares or record.room.binding_pool_limit() is not None
            if may_get_one and self.may_serve(ident, record.backend):
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
