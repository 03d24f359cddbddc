"""C{Managers}: the managers of one pool, by backend and ident.

Its state is the managers that serve; those that were replaced and wait for their last leases; weak
sets of the managers made and of their verified classes; whether all are paused, and the backends
that differ from that; the backends being drained, and whether only because no group has them; and
whether the pool is closed, or of another process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from twisted.internet.defer import Deferred
from zope.interface import Invalid
from zope.interface.verify import verifyObject

from kolus.backend import AnyBackend, Backend, Backends
from kolus.errors import Closed, Draining, KolusError
from kolus.interfaces import IKolusManager
from kolus.manager.backend.limits import Limits
from kolus.manager.process_guard import ProcessGuard
from kolus.manager.unclaimed import give, is_unclaimed

if TYPE_CHECKING:
    from kolus.lease import Lease
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.backend.records import Records
    from kolus.policy import Policy

__all__ = ["MakeManager", "Managers"]

MakeManager = Callable[[Backend, Hashable], IKolusManager]


class Managers:
    """Finds the manager of a backend for an ident, and makes it if there is none.

    @ivar at: the managers that serve, by the backend's key and by ident. Only this class changes
        it.
    @ivar records: the records of the backends.
    @ivar limits: sets the limits of the backends.
    @ivar policy: the policy of managers made from now on.
    @ivar closed: whether no more managers are made.
    """

    def __init__(self, policy: Policy, make: MakeManager, records: Records) -> None:
        self.at: dict[Hashable, dict[Hashable, IKolusManager]] = {}
        self.records = records
        self.policy = policy
        self.closed = False
        self._make = make
        self._verified: WeakSet[type] = WeakSet()
        self._leaving: list[IKolusManager] = []
        self._made: WeakSet[IKolusManager] = WeakSet()
        self._draining: dict[Hashable, bool] = {}
        self.limits = Limits(self)
        self._all_paused = False
        self._paused: dict[Hashable, bool] = {}
        records.close_unused = self._close_unused
        self.process = ProcessGuard(lambda: "this pool", self._was_forked)

    def __iter__(self) -> Iterator[IKolusManager]:
        """All managers that are not closed, including those that were replaced."""
        serving = [each for managers in self.at.values() for each in managers.values()]
        return iter(serving + self._leaving)

    def __contains__(self, manager: object) -> bool:
        """Whether this pool has made C{manager}."""
        return manager in self._made

    def of(self, backend: Backend) -> list[IKolusManager]:
        """The managers of a backend that are not closed, those that serve first."""
        leaving = [each for each in self._leaving if each.backend == backend]
        return [*self.at.get(backend.key, {}).values(), *leaving]

    def makes_next(self, backend: Backend) -> bool:
        """Whether the next request for a backend makes a manager, whatever its ident."""
        return not (self.at.get(backend.key) or backend.key in self._draining)

    def find(self, ident: Hashable, backend: AnyBackend | IKolusManager) -> IKolusManager | None:
        """The manager that must answer a request, possibly by refusing it. C{None} if there is
        none yet.

        @raise ValueError: C{backend} is a manager of another pool, or is invalid.
        @raise TypeError: it is not a backend.
        @raise LeaseError: this is a forked child of the process that the pool belongs to.
        """
        self.process.check()
        if IKolusManager.providedBy(backend):
            if backend not in self._made:
                raise ValueError(f"{backend!r} is not a manager of this pool")
            return backend
        # An endpoint string is its own key; parsing it is slow.
        known = isinstance(backend, str) and backend in self.at
        key: Hashable = backend if known else Backend.of(backend).key
        managers = self.at.get(key, {})
        if ident in managers:
            return managers[ident]
        if key in self._draining:
            return next((each for each in self if each.backend.key == key), None)
        return next(iter(managers.values()), None) if self.policy.idents == "reject" else None

    def find_for(
        self, ident: Hashable, backend: AnyBackend | IKolusManager
    ) -> IKolusManager | None:
        """As C{find}, for a request. What C{warm} made for no ident is for the first that asks."""
        manager = self.find(ident, backend)
        if manager is backend or (manager is not None and manager.ident == ident):
            return manager
        key = Backend.of(backend).key  # type: ignore[arg-type]
        managers, record = self.at.get(key, {}), self.records.find(key)
        warmed: Any = managers.get(None)
        if record is None or warmed not in record.members or not is_unclaimed(warmed):
            return manager
        self.records.group_queues.manager_gone(warmed)
        managers[ident] = managers.pop(None)
        give(warmed, ident)
        self.records.group_queues.manager_made(warmed)
        warmed.connections_changed()  # others of this ident may wait for what is idle there
        return warmed  # type: ignore[no-any-return]

    def find_or_make(self, ident: Hashable, backend: AnyBackend | IKolusManager) -> IKolusManager:
        """
        @raise Closed: there is none, and the pool is closed.
        @raise Draining: another ident took over while this one did.
        @raise TypeError: what was made is not a manager.
        """
        manager = self.find_for(ident, backend)
        if manager is not None:
            return manager
        if self.closed:
            raise Closed("the pool is closed")
        where = self.records.called(Backend.of(backend))  # type: ignore[arg-type]
        manager = self._make(where, ident)
        if type(manager) not in self._verified:  # verifying is slower than all the rest
            try:
                verifyObject(IKolusManager, manager)
            except Invalid as error:
                raise TypeError(f"make_manager gave no IKolusManager: {error}") from error
            self._verified.add(type(manager))
        # What makes a manager may have closed the pool, or asked for the same backend itself.
        known = self.find(ident, where)
        if self.closed or known is not None:
            manager.close(0)
            if known is None:
                raise Closed("the pool is closed")
            return known
        others = tuple(self.at.get(where.key, {}).values())
        self.limits.count(where, self.limits.of(where))
        self._made.add(manager)
        self.process.begin()  # not before: without managers a pool may well go with its process
        self.at.setdefault(where.key, {})[ident] = manager
        manager.when_closed().addCallback(self._forget, manager, where.key)
        if self.is_paused(where):
            manager.pause()
        self.records.group_queues.manager_made(manager)
        record = self.records.find(where.key)
        if record is not None:
            record.unused_managers.close_some()
        if self.policy.idents == "replace":
            for each in others:  # their failed waiters may retry at once, and replace this one
                self._replace(each)
            if self.at.get(where.key, {}).get(ident) is not manager:
                raise Draining(f"{where} was taken over by another ident")
        return manager

    def provide(self, ident: Hashable, backend: Backend) -> IKolusManager:
        """As C{find_or_make}, for a request that other backends may serve. If a manager cannot be
        made, that counts as a failed attempt to connect.

        @raise ConnectFailed: a manager cannot be made.
        @raise KolusError: as C{find_or_make} does.
        @raise TypeError: C{ident} is not hashable. That is not the backend's fault.
        """
        hash(ident)
        try:
            return self.find_or_make(ident, backend)
        except KolusError:
            raise
        except Exception as error:
            why = error
        raise self.records.connect_failed(backend, self.policy, why, ident)

    def reconnect(self, record: BackendRecord) -> None:
        """Connect to a backend that no request is to wait for, to find out whether it is back."""
        backend = record.backend
        members = [each for each in record.members if each.serves()]
        if not members and self.may_make(backend):
            with suppress(KolusError):
                self.provide(record.last_ident, backend)
            members = [each for each in record.members if each.serves()]
        if members:
            members[0].placements.reconnect()

    def _close_unused(self, record: BackendRecord, most: int) -> None:
        """Close managers that nobody uses, if a backend has more than C{most}."""
        for _ in range(len(self.at.get(record.backend.key, {})) - most):
            unused: Any = record.unused_managers.longest()
            if unused is None:
                return
            self._replace(unused)

    def connect(
        self, ident: Hashable, backend: Backend, timeout: float | None
    ) -> Deferred[Lease[Any]]:
        """Ask for a lease, for a probe. If no manager can be made, the Deferred fails."""
        return self.provide(ident, backend).connect(ident, timeout)

    def _replace(self, manager: IKolusManager) -> None:
        """It makes way for another ident: idle connections close now, the others when released."""
        managers = self.at.get(manager.backend.key, {})
        if managers.get(manager.ident) is manager:  # no third ident has taken over meanwhile
            del managers[manager.ident]
            self._leaving.append(manager)
            manager.drain()

    def _forget(self, _: None, manager: IKolusManager, key: Hashable) -> None:
        if manager in self._leaving:
            self._leaving.remove(manager)
        managers = self.at.get(key, {})
        if managers.get(manager.ident) is manager:
            del managers[manager.ident]
        if not managers:
            self.at.pop(key, None)
        if not self.of(manager.backend):
            self._draining.pop(key, None)
            self.limits.count(manager.backend, 0)
        self.records.group_queues.manager_gone(manager)
        self.records.tell_watchers(manager.backend)

    def drain(self, backend: Backend, *, until_back: bool = False) -> list[Deferred[None]]:
        """Drain the managers of a backend. It gets no new ones until all of them are closed.

        @param until_back: C{listed_again} ends that, too, unless it was also drained without this.
        """
        self.process.check()
        managers = self.of(backend)
        if managers:
            self._draining[backend.key] = until_back and self._draining.get(backend.key, True)
            record = self.records.find(backend.key)
            if record is not None:
                record.turns.all_want_no_more()
        return [each.drain() for each in managers]

    def listed_again(self, backends: Backends) -> None:
        """Groups have these backends again. Managers that were drained because their backend had
        left go on draining, and do not prevent new managers any more."""
        back = [key for key, until_back in self._draining.items() if until_back and key in backends]
        for key in back:
            if self._draining.get(key):  # a callback in this loop may have ended the draining
                del self._draining[key]
                self._leaving += self.at.pop(key, {}).values()
                self.records.tell_watchers(backends[key])

    def close(self, timeout: float) -> list[Deferred[None]]:
        """Close them all, and make no more."""
        self.process.check()
        self.closed = True
        for record in self.records:
            record.turns.all_want_no_more()
        self.records.stop()
        return [each.close(timeout) for each in tuple(self)]

    # Operating

    def set_paused(self, backend: Backend | None, paused: bool) -> None:
        """Pause or resume those of one backend, or all, and those that are made later too."""
        self.process.check()
        if backend is None:
            self._all_paused = paused
            self._paused.clear()
        elif paused is self._all_paused:
            self._paused.pop(backend.key, None)
        else:
            self._paused[backend.key] = paused
        for manager in tuple(self) if backend is None else self.of(backend):
            # A callback in this loop may have paused or resumed it otherwise.
            if self.is_paused(manager.backend):
                manager.pause()
            else:
                manager.resume()
        self.records.tell_watchers(backend)  # backends without managers have changed, too

    def is_untouched(self, backend: Backend) -> bool:
        """Whether a backend has no manager, and the next request makes one."""
        return backend.key not in self.at and not self.is_paused(backend)

    def is_paused(self, backend: Backend) -> bool:
        return self._paused.get(backend.key, self._all_paused)

    def may_make(self, backend: Backend) -> bool:
        """Whether a new ident's manager could be made without displacing another."""
        if self.closed or backend.key in self._draining or self.is_paused(backend):
            return False
        return self.policy.idents == "separate" or not self.at.get(backend.key)

    def _was_forked(self) -> None:
        """This is a forked child: the connections are its parent's."""
        self.at.clear()
