"""C{Managers}: the managers of one pool, by backend and ident.

Its state is the managers that serve, those that have been replaced and let their last leases come
home, which managers it has made, for as long as anybody has them; the account of each backend,
which outlives its managers; what is paused: all or not, and the backends that differ from that;
the limits of backends that have one of their own, and those that the descriptor watch counts;
which are being drained; and whether the pool is closed, or another process's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from weakref import WeakSet

from twisted.internet.defer import Deferred
from zope.interface import Invalid
from zope.interface.verify import verifyObject

from kolus.account import Account
from kolus.backend import AnyBackend, Backend
from kolus.descriptors import DescriptorWatch
from kolus.errors import Closed, Draining, LeaseError
from kolus.fork import after_fork
from kolus.interfaces import IKolusManager
from kolus.policy import Policy, check_whole

__all__ = ["MakeManager", "Managers"]

MakeManager = Callable[[Backend, Hashable], IKolusManager]


class Managers:
    """Finds the manager of a backend for an ident, and makes it when there is none.

    @ivar at: the managers that serve, by their backend's key and by ident. Read it; it is changed
        here alone.
    @ivar accounts: what the managers of each backend share, by its key.
    @ivar policy: for managers made from now on.
    @ivar closed: whether none are made any more.
    """

    def __init__(self, policy: Policy, make: MakeManager) -> None:
        self.at: dict[Hashable, dict[Hashable, IKolusManager]] = {}
        self.policy = policy
        self.closed = False
        self._make = make
        self._leaving: list[IKolusManager] = []
        self._made: WeakSet[IKolusManager] = WeakSet()
        self.accounts: dict[Hashable, Account] = {}
        self._limits: dict[Hashable, int] = {}
        self._draining: set[Hashable] = set()
        self._descriptors = DescriptorWatch()
        self._counted: dict[Hashable, int] = {}
        self._all_paused = False
        self._paused: dict[Hashable, bool] = {}
        self._process = os.getpid()
        self._is_foreign = False

    def __iter__(self) -> Iterator[IKolusManager]:
        """All that have connections or may have some, also those that were replaced."""
        serving = [each for managers in self.at.values() for each in managers.values()]
        return iter(serving + self._leaving)

    def __contains__(self, manager: object) -> bool:
        """Whether it is, or was, one of these."""
        return manager in self._made

    def of(self, backend: Backend) -> list[IKolusManager]:
        """Those of one backend, the ones that serve first."""
        leaving = [each for each in self._leaving if each.backend == backend]
        return [*self.at.get(backend.key, {}).values(), *leaving]

    def find(self, ident: Hashable, backend: AnyBackend | IKolusManager) -> IKolusManager | None:
        """The manager that has to answer a request: it may do so by refusing it.

        @raise ValueError: C{backend} is another pool's manager, or cannot be understood.
        @raise TypeError: it is no backend.
        @raise LeaseError: this is a forked child of the process that the pool belongs to.
        """
        self.check_process()
        if IKolusManager.providedBy(backend):
            if backend not in self._made:
                raise ValueError(f"{backend!r} is not a manager of this pool")
            return backend
        # An endpoint string is its key, and parsing it takes long.
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
        @raise Closed: there is none and no more are made.
        @raise Draining: another ident has taken over, in what this one's taking over led to.
        @raise TypeError: what was made is no manager.
        """
        manager = self.find(ident, backend)
        if manager is not None:
            return manager
        if self.closed:
            raise Closed("the pool is closed")
        where = Backend.of(backend)  # type: ignore[arg-type]
        manager = self._make(where, ident)
        try:
            verifyObject(IKolusManager, manager)
        except Invalid as error:
            raise TypeError(f"make_manager gave no IKolusManager: {error}") from error
        others = tuple(self.at.get(where.key, {}).values())
        self._count(where, self.limit(where))
        self._made.add(manager)
        self._process = os.getpid()
        after_fork(self)  # not before: without managers a pool may well go with its process
        self.at.setdefault(where.key, {})[ident] = manager
        manager.when_closed().addCallback(self._forget, manager, where.key)
        if self.is_paused(where):
            manager.pause()
        if self.policy.idents == "replace":
            for each in others:  # their waiters may ask again at once, and so replace this one
                self._replace(each)
            if self.at.get(where.key, {}).get(ident) is not manager:
                raise Draining(f"{where} was taken over by another ident")
        return manager

    def _replace(self, manager: IKolusManager) -> None:
        """Another ident takes over: what is idle closes now, the rest as it comes home."""
        managers = self.at.get(manager.backend.key, {})
        if managers.get(manager.ident) is manager:  # and no third one has taken over meanwhile
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
            self._draining.discard(key)
            self._count(manager.backend, 0)

    def drain(self, backend: Backend) -> list[Deferred[None]]:
        """Drain those of one backend, which has no new ones before they are all closed."""
        self.check_process()
        managers = self.of(backend)
        if managers:
            self._draining.add(backend.key)
            self._end_turns(backend.key)
        return [each.drain() for each in managers]

    def close(self, timeout: float) -> list[Deferred[None]]:
        """Close them all, and make no more."""
        self.check_process()
        self.closed = True
        for key in self.accounts:
            self._end_turns(key)
        return [each.close(timeout) for each in tuple(self)]

    def _end_turns(self, key: Hashable) -> None:
        """All of a backend's are about to end: the end of one is not to serve the next."""
        if key in self.accounts:
            self.accounts[key].wanting.clear()

    # Accounts and limits

    def account(self, backend: Backend) -> Account:
        """What the managers of a backend share; made when it is first asked for."""
        account = self.accounts.get(backend.key)
        if account is None:
            if backend.limit is not None:
                self._limits.setdefault(backend.key, backend.limit)
            account = Account(self.limit(backend), self.policy.max_connecting, backend)
            self.accounts[backend.key] = account
        return account

    def limit(self, backend: Backend) -> int:
        """Most connections of a backend."""
        own = self.policy.limit if backend.limit is None else backend.limit
        return self._limits.get(backend.key, own)

    def resize(self, limit: int, backend: Backend | None) -> None:
        """Set the limit of a backend, or of all that have none of their own if C{None}."""
        check_whole("limit", limit, 1)
        self.check_process()
        if backend is None:
            self.policy = replace(self.policy, limit=limit)
        else:
            self._limits[backend.key] = limit
        accounts = [each for each in self.accounts.values() if self._follows(each.backend, backend)]
        managers = [each for each in self if self._follows(each.backend, backend)]
        members: list[object] = [each for account in accounts for each in account.members]
        for manager in managers:
            self._count(manager.backend, limit)
        for account in accounts:
            account.resize(limit)
        for manager in managers:  # those that are not ours need not have taken an account
            if manager not in members:
                manager.resize(limit)

    def _follows(self, which: Backend, backend: Backend | None) -> bool:
        """Whether a resizing of C{backend}, or of all without a limit of their own, is for it."""
        if backend is not None:
            return which == backend
        return which.limit is None and which.key not in self._limits

    def _count(self, backend: Backend, limit: int) -> None:
        """Count how many descriptors a backend may need; 0 if it has no manager any more."""
        self._descriptors.change(self._counted.pop(backend.key, 0), limit)
        if limit:
            self._counted[backend.key] = limit

    # Operating

    def set_paused(self, backend: Backend | None, paused: bool) -> None:
        """Pause or resume those of one backend, or all, and those that are made later too."""
        self.check_process()
        if backend is None:
            self._all_paused = paused
            self._paused.clear()
        else:
            self._paused[backend.key] = paused
        for manager in tuple(self) if backend is None else self.of(backend):
            # Whom the one before has served may have ordered otherwise meanwhile.
            if self.is_paused(manager.backend):
                manager.pause()
            else:
                manager.resume()

    def is_paused(self, backend: Backend) -> bool:
        return self._paused.get(backend.key, self._all_paused)

    # Processes

    def forked(self) -> None:
        """Called in a forked child: the connections are its parent's."""
        self._is_foreign = True
        self.at.clear()

    def check_process(self) -> None:
        """
        @raise LeaseError: this is a forked child of the process that the pool belongs to.
        """
        if self._is_foreign:
            raise LeaseError(
                f"process {os.getpid()} cannot use this pool: process {self._process} made it"
            )
