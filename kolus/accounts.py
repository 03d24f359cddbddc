"""C{Accounts}: the account of each backend of a pool, which outlives the backend's managers.

Its state is the accounts, the limits of backends that have one of their own, which numbers the
requests, which backends are ejected, and who is attached: the queues that several backends share,
and the watchers of backends, each to the accounts that there are and to those that are made later.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping

from twisted.internet.interfaces import IReactorTime

from kolus.account import UNKNOWN, Account, Watcher
from kolus.backend import Backend
from kolus.backoff import Rng
from kolus.errors import ConnectFailed
from kolus.events import Observer
from kolus.journal import Journal
from kolus.learner import Learner
from kolus.policy import Policy
from kolus.shared_queue import SharedQueue

__all__ = ["Accounts"]

Keyed = Mapping[Hashable, object]


class Accounts:
    """Makes the account of a backend when it is first asked for.

    @ivar loads: see L{Account}.
    @ivar find: the account of the backend with a key, C{None} if there is none.
    @ivar limits: of backends that have one of their own, by their keys.
    @ivar sick: the accounts of backends that are not well, by their keys.
    @ivar health_changes: how often that has changed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        observers: list[Observer],
        rng: Rng,
        probe: Callable[[Account], object] | None,
    ) -> None:
        """
        @param probe: probes a backend that is due; C{None} if a request is to be the probe.
        """
        self.limits: dict[Hashable, int] = {}
        self.sick: dict[Hashable, Account] = {}
        self.health_changes = 0
        self._probe = probe
        self._clock = clock
        self._observers = observers
        self._rng = rng
        self._accounts: dict[Hashable, Account] = {}
        self.find = self._accounts.get
        self.loads = [UNKNOWN]  # of what has no account yet
        self._arrivals = itertools.count()
        self._queues: dict[SharedQueue, None] = {}
        self._watchers: list[tuple[Watcher, Keyed]] = []
        self._learners: list[tuple[Learner, Keyed]] = []

    def __iter__(self) -> Iterator[Account]:
        return iter(tuple(self._accounts.values()))

    def of(self, backend: Backend, policy: Policy) -> Account:
        """The account of a backend; made if there is none."""
        account = self._accounts.get(backend.key)
        return self._open(backend, policy) if account is None else account

    def limit(self, backend: Backend, policy: Policy) -> int:
        """Most connections of a backend."""
        own = policy.limit if backend.limit is None else backend.limit
        return self.limits.get(backend.key, own)

    def _open(self, backend: Backend, policy: Policy) -> Account:
        if backend.limit is not None:
            self.limits.setdefault(backend.key, backend.limit)
        account = Account(
            self.limit(backend, policy),
            policy.max_connecting,
            backend,
            self._clock,
            ejection=policy.ejection,
            rng=self._rng,
            arrivals=self._arrivals,
            loads=self.loads,
        )
        account.keeper = self
        self._accounts[backend.key] = account
        for queue in self._queues:
            if backend.key in queue.backends:
                account.shared_by(queue.ident)[queue] = None
        account.watchers += [each for each, keyed in self._watchers if backend.key in keyed]
        for learner, keyed in self._learners:
            if backend.key in keyed:
                account.teach(learner)
        account.changed()
        return account

    def connect_failed(self, backend: Backend, policy: Policy, why: Exception) -> ConnectFailed:
        """What would have connected could not be made: that counts as an attempt that failed.

        @return: what a request fails with for that reason.
        """
        account = self.of(backend, policy)
        failures = account.attempts.failures + 1
        delay = 0.0 if policy.backoff is None else policy.backoff.delay(failures, self._rng)
        account.attempts.failed(why, failures, self._clock.seconds() + delay)
        self._journal(account).connect_failed(ConnectFailed(backend, why, delay), failures)
        account.health.connect_failed(why)
        return ConnectFailed(backend, why, delay)  # it is raised; the log may keep the other

    # Health, as accounts tell it

    def ejected(self, account: Account, reason: str, seconds: float) -> None:
        self.sick[account.backend.key] = account
        self.health_changes += 1
        self._journal(account).ejected(reason, seconds)
        for queue in tuple(self._queues):
            if account.backend.key in queue.backends:
                queue.health_changed()

    def admitted(self, account: Account, reason: str) -> None:
        self.sick.pop(account.backend.key, None)
        self.health_changes += 1
        self._journal(account).admitted(reason)
        for queue in tuple(self._queues):
            if account.backend.key in queue.backends:
                queue.look_anew()

    def probe_is_due(self, account: Account) -> None:
        self._journal(account).probe_is_due()
        if self._probe is not None:
            self._probe(account)

    def _journal(self, account: Account) -> Journal:
        return Journal(account.backend, None, account.counters, self._observers)

    # Who is attached

    def attach(self, queue: SharedQueue) -> None:
        """Let the managers of its backends serve a queue."""
        self._queues[queue] = None
        for account in self.among(queue.backends):
            account.shared_by(queue.ident)[queue] = None

    def detach(self, queue: SharedQueue) -> None:
        """Let them serve it no more."""
        if self._queues.pop(queue, queue) is None:
            for account in self.among(queue.backends):
                account.shared_by(queue.ident).pop(queue, None)

    def watch(self, watcher: Watcher, keyed: Keyed) -> None:
        """Tell a watcher what changes at these backends."""
        self._watchers.append((watcher, keyed))
        for account in self.among(keyed):
            account.watchers.append(watcher)

    def unwatch(self, watcher: Watcher, keyed: Keyed) -> None:
        """Tell it no more."""
        if (watcher, keyed) in self._watchers:
            self._watchers.remove((watcher, keyed))
            for account in self.among(keyed):
                account.watchers.remove(watcher)

    def teach(self, learner: Learner, keyed: Keyed) -> None:
        """Let a learner hear of the leases of these backends."""
        self._learners.append((learner, keyed))
        for account in self.among(keyed):
            account.teach(learner)

    def unteach(self, learner: Learner, keyed: Keyed) -> None:
        """Let it hear of them no more, unless it is to for another reason."""
        if (learner, keyed) in self._learners:
            self._learners.remove((learner, keyed))
            others = [keyed for each, keyed in self._learners if each == learner]
            for account in self.among(keyed):
                if not any(account.backend.key in each for each in others):
                    account.unteach(learner)

    def tell_watchers(self, backend: Backend | None) -> None:
        """What may be done with a backend has changed, or with all if C{None}."""
        for queue in tuple(self._queues):
            if backend is None or backend.key in queue.backends:
                queue.look_anew()
        for account in self if backend is None else self.among({backend.key: backend}):
            account.changed()
        for watcher, keyed in self._watchers:
            for key in keyed if backend is None else {backend.key} & keyed.keys():
                watcher(key)

    def among(self, keys: Mapping[Hashable, object]) -> Iterator[Account]:
        """The accounts that there are of the backends with these keys."""
        if len(keys) < len(self._accounts):
            found = [self._accounts.get(key) for key in keys]
            return iter([each for each in found if each is not None])
        return iter([each for key, each in self._accounts.items() if key in keys])

    def stop(self) -> None:
        """The pool is closed: nothing is due any more."""
        for account in self:
            account.health.stop()
