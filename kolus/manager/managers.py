"""C{Managers}: the managers of one pool, by backend and ident.

Its state is the managers that serve; those that were replaced and wait for their last leases; weak
sets of the managers made and of their verified classes; the pools that share the limits; whether
all are paused, and the backends that differ from that; the limits that the descriptor watch counts;
the backends being drained, and whether only because no group has them; and whether the pool is
closed, or of another process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import Invalid
from zope.interface.verify import verifyObject

from kolus.backend import AnyBackend, Backend, Backends
from kolus.errors import Closed, Draining, KolusError
from kolus.interfaces import IKolusManager
from kolus.manager.process_guard import ProcessGuard
from kolus.support import DescriptorWatch, check_whole

if TYPE_CHECKING:
    from kolus.lease import Lease
    from kolus.manager.record import BackendRecord
    from kolus.manager.records import Records
    from kolus.policy import Policy

__all__ = ["MakeManager", "Managers"]

_log = Logger()

MakeManager = Callable[[Backend, Hashable], IKolusManager]


class Managers:
    """Finds the manager of a backend for an ident, and makes it if there is none.

    @ivar at: the managers that serve, by the backend's key and by ident. Only this class changes
        it.
    @ivar records: the records of the backends.
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
        self._descriptors = DescriptorWatch()
        self._descriptors.most = records.budget.limit
        self._counted: dict[Hashable, int] = {}
        self._sharing: list[Managers] = []
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

    def find_or_make(self, ident: Hashable, backend: AnyBackend | IKolusManager) -> IKolusManager:
        """
        @raise Closed: there is none, and the pool is closed.
        @raise Draining: another ident took over while this one did.
        @raise TypeError: what was made is not a manager.
        """
        manager = self.find(ident, backend)
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
        self._count(where, self.limit(where))
        self._made.add(manager)
        self.process.begin()  # not before: without managers a pool may well go with its process
        self.at.setdefault(where.key, {})[ident] = manager
        manager.when_closed().addCallback(self._forget, manager, where.key)
        if self.is_paused(where):
            manager.pause()
        self.records.group_queues.manager_made(manager)
        record = self.records.find(where.key)
        if record is not None:
            record.vacancies.close_some()
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
            unused: Any = record.vacancies.longest()
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
            self._count(manager.backend, 0)
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

    # Limits

    def limit(self, backend: Backend) -> int:
        """The most connections of a backend."""
        record = self.records.find(backend.key)
        return self.records.limit(backend, self.policy) if record is None else record.limit

    def resize(self, limit: int, backend: Backend | None) -> None:
        """Set the limit of a backend; C{None}: of all backends without their own."""
        check_whole("limit", limit, 1)
        self.process.check()
        if backend is None:
            own = self.records.own_limit
            self.policy = self.policy.resized(limit)
            records = [each for each in self.records if own(each.backend) is None]
            managers = [each for each in self if own(each.backend) is None]
        else:
            self.records.limits[backend.key] = limit
            records = list(self.records.among({backend.key: backend}))
            managers = self.of(backend)
        self._resize(limit, records, managers)

    def resize_pool(self, limit: int | None) -> None:
        """Set the limit of all backends together; C{None}: no limit."""
        if limit is not None:
            check_whole("limit", limit, 1)
        self.process.check()
        self._descriptors.most = limit
        self.records.budget.resize(limit, self.records)
        self.records.tell_watchers(None)

    def follow(self, before: Backends, now: Backends) -> None:
        """A group has another list: those of which another limit is said have that, whatever was
        set by hand; those that came or left have what is said of them now, if none was."""
        if self.process.is_foreign:
            return
        others = [key for key, each in before.items() if now.get(key, each).limit != each.limit]
        said = [now[key] for key in others]
        for backend in said:
            self.records.limits.pop(backend.key, None)
        came = [each.backend for each in self.records.among(now) if each.backend.key not in before]
        left = [each.backend for each in self.records.among(before) if each.backend.key not in now]
        for backend in said + came + left:
            record = self.records.find(backend.key)
            limit = self.records.limit(backend, self.policy)
            if record is None or record.limit != limit:
                try:
                    self._resize(limit, [record] if record else [], self.of(backend))
                except Exception:  # a user's manager raised; go on with the rest of the list
                    _log.failure("{backend} keeps the limit that it had", backend=backend)

    def share_limits(self, other: Managers) -> None:
        """See C{Pool.share_limits}."""
        for one, another in ((self, other), (other, self)):
            one._sharing.append(another)
            one.records.sharers.append(another._record_of)
            for record in one.records:
                for connection in record.all - record.detached:
                    another._record_of(record.backend).slot_kept(connection)

    def share_no_more(self) -> None:
        """It has no connection left, and makes none."""
        for other in self._sharing:
            other._sharing.remove(self)
            other.records.sharers.remove(self._record_of)
        self._sharing.clear()
        self.records.sharers.clear()

    def _record_of(self, backend: Backend) -> BackendRecord:
        return self.records.of(backend, self.policy)

    def _resize(
        self, limit: int, records: Sequence[BackendRecord], managers: Sequence[IKolusManager]
    ) -> None:
        members: list[object] = [each for record in records for each in record.members]
        for manager in managers:
            self._count(manager.backend, limit)
        for record in records:
            record.resize(limit)
        for manager in managers:  # a user's manager may not be a member of the record
            if manager not in members:
                manager.resize(limit)

    def _count(self, backend: Backend, limit: int) -> None:
        """Count the file descriptors that a backend may need; 0 if it has no manager any more."""
        self._descriptors.change(self._counted.pop(backend.key, 0), limit)
        if limit:
            self._counted[backend.key] = limit

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
