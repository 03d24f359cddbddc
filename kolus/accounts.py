"""C{Accounts}: the account of each backend of a pool, which outlives the backend's managers.

Its state is the accounts, those that may be forgotten, what the forgotten have left, the limits
that were set by hand, which numbers the requests, which backends are ejected, the lists of the
groups, and who is attached: the queues that several backends share, and the watchers and learners
of backends, each to the accounts that there are and to those that are made later.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping

from twisted.internet.interfaces import IReactorTime

from kolus.account import Account, Watcher
from kolus.backend import Backend, Backends
from kolus.backoff import Rng
from kolus.counters import Counters
from kolus.errors import ConnectFailed
from kolus.events import Observer
from kolus.frames import let_go, shown
from kolus.health import Phase
from kolus.journal import Journal
from kolus.learner import Learner
from kolus.legacy import Legacy
from kolus.policy import Policy
from kolus.shared_queue import SharedQueue

__all__ = ["Accounts"]

_MOST_UNUSED = 1000

Keyed = Mapping[Hashable, object]
"""Whatever is kept by the keys of backends: which these are."""


class Accounts:
    """Makes the account of a backend when it is first asked for, and forgets those that were unused
    for longest.

    @ivar find: the account of the backend with a key, C{None} if there is none.
    @ivar limits: those set by hand, by the backends' keys.
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
        @param probe: probes a backend that is due and of use to somebody; C{None} if a request is
            to be the probe.
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
        self._unused: OrderedDict[Hashable, None] = OrderedDict()
        self._legacy = Legacy()
        self._arrivals = itertools.count()
        self._queues: dict[Hashable, dict[SharedQueue, None]] = {}  # by their idents
        self._lists: dict[int, Backends] = {}  # by their identity, the newest last
        self._watchers: list[tuple[Watcher, Keyed]] = []
        self._learners: list[tuple[Learner, Keyed]] = []

    def __iter__(self) -> Iterator[Account]:
        return iter(tuple(self._accounts.values()))

    def of(self, backend: Backend, policy: Policy) -> Account:
        """The account of a backend; made if there is none."""
        account = self._accounts.get(backend.key)
        return self._open(backend, policy) if account is None else account

    def limit(self, backend: Backend, policy: Policy) -> int:
        """Most connections of a backend, as it ought to be now."""
        own = self.own_limit(backend)
        return policy.limit if own is None else own

    def own_limit(self, backend: Backend) -> int | None:
        """The limit that a backend has of its own: set by hand, or else what the newest list that
        says one says, or else C{backend}."""
        key = backend.key
        if key in self.limits or not self._lists:
            return self.limits.get(key, backend.limit)
        listed = [each[key].limit for each in self._lists.values() if key in each]
        return next((each for each in reversed(listed) if each is not None), backend.limit)

    def called(self, backend: Backend) -> Backend:
        """The same backend as the newest list that has it calls it."""
        key = backend.key
        lists = reversed(self._lists.values())
        return next((each[key] for each in lists if key in each), backend)

    def _open(self, backend: Backend, policy: Policy) -> Account:
        backend = self.called(backend)
        account = Account(
            self.limit(backend, policy),
            policy.max_connecting,
            backend,
            self._clock,
            ejection=policy.ejection,
            rng=self._rng,
            arrivals=self._arrivals,
        )
        account.keeper = self
        self._accounts[backend.key] = account
        account.watchers += [each for each, keyed in self._watchers if backend.key in keyed]
        for learner, keyed in self._learners:
            if backend.key in keyed:
                account.teach(learner)
        account.changed()
        self.unused(account)
        return account

    def counters(self) -> Counters:
        """What has happened at all backends, those that were forgotten included."""
        return sum([each.counters for each in self], self._legacy.counters())

    # Forgetting

    def unused(self, account: Account) -> None:
        """Called by an account that has no manager: it is forgotten when it has had none for
        longest, unless it is of use to somebody then."""
        self._unused[account.backend.key] = None
        self._unused.move_to_end(account.backend.key)
        while len(self._unused) > _MOST_UNUSED:
            oldest = self._accounts.get(self._unused.popitem(last=False)[0])
            if oldest is not None and not self._is_of_use(oldest):
                self._forget(oldest)

    def _is_of_use(self, account: Account) -> bool:
        return bool(account.members) or account.health.is_by_hand or self._is_listed(account)

    def _forget(self, account: Account) -> None:
        del self._accounts[account.backend.key]
        if self.sick.pop(account.backend.key, None) is not None:
            self.health_changes += 1
        account.keeper = None
        account.health.stop()
        self._legacy.expect(account)

    def connect_failed(self, backend: Backend, policy: Policy, why: Exception) -> ConnectFailed:
        """What would have connected could not be made: that counts as an attempt that failed.

        @return: what a request fails with for that reason.
        """
        account = self.of(backend, policy)
        where = shown(why)
        let_go(why)  # of the frames of whoever has just asked: it is kept
        failures = account.attempts.failures + 1
        delay = 0.0 if policy.backoff is None else policy.backoff.delay(failures, self._rng)
        account.attempts.failed(why, failures, self._clock.seconds() + delay)
        self._journal(account).connect_failed(ConnectFailed(backend, why, delay), failures, where)
        account.health.connect_failed(why)
        for member in tuple(account.members):
            member.connections_changed()  # others are to connect there then, and not before
        return ConnectFailed(backend, why, delay)  # it is raised; the log may keep the other

    # Health, as accounts tell it

    def ejected(self, account: Account, reason: str, seconds: float) -> None:
        self.sick[account.backend.key] = account
        self.health_changes += 1
        self._journal(account).ejected(reason, seconds)
        for queue in self._queues_at(None):  # a group panics for those who exclude it, too
            queue.health_changed()

    def admitted(self, account: Account, reason: str) -> None:
        self.sick.pop(account.backend.key, None)
        self.unused(account)
        self.health_changes += 1
        self._journal(account).admitted(reason)
        for queue in self._queues_at(None):
            queue.look_anew()

    def probe_is_due(self, account: Account) -> None:
        self._journal(account).probe_is_due()
        if self._is_listed(account) or (account.members and not account.health.is_given_up):
            self._probe_if_due(account)

    def _probe_if_due(self, account: Account) -> None:
        # Whoever was told that it is due may have ejected it by hand.
        if self._probe is not None and account.health.phase is Phase.DUE:
            self._probe(account)

    def _is_listed(self, account: Account) -> bool:
        return any(account.backend.key in each for each in self._lists.values())

    def _journal(self, account: Account) -> Journal:
        return Journal(account.backend, None, account.counters, self._observers)

    # Who is attached

    def enlist(self, backends: Backends) -> None:
        """A group has these backends."""
        self._lists[id(backends)] = backends
        for account in self.among(backends):
            account.is_called(backends[account.backend.key])

    def delist(self, backends: Backends) -> None:
        """It has them no more."""
        del self._lists[id(backends)]
        for account in self.among(backends):
            if self._is_listed(account):
                account.is_called(self.called(account.backend))
            elif not self._is_of_use(account):
                self.unused(account)

    def probe_those_due(self, keyed: Keyed) -> None:
        """Probe those that were not while nobody had any use for them."""
        for account in tuple(self.sick.values()):
            if account.backend.key in keyed:
                self._probe_if_due(account)

    def attach(self, queue: SharedQueue) -> None:
        """Let the managers of its backends serve a queue."""
        self._queues.setdefault(queue.ident, {})[queue] = None
        for account in self.among(queue.backends):
            account.share(queue)

    def detach(self, queue: SharedQueue) -> None:
        """Let them serve it no more."""
        queues = self._queues.get(queue.ident, {})
        if queue in queues:
            del queues[queue]
            if not queues:
                del self._queues[queue.ident]
            for account in self.among(queue.backends):
                account.unshare(queue)

    def queues(self, account: Account, ident: Hashable) -> list[SharedQueue]:
        """Called by an account: those that its managers for C{ident} may serve."""
        queues = self._queues.get(ident, {})
        return [each for each in queues if account.backend.key in each.backends]

    def _queues_at(self, key: Hashable | None) -> list[SharedQueue]:
        """Those that the backend with a key may serve; all if C{None}."""
        every = [each for queues in self._queues.values() for each in queues]
        return every if key is None else [each for each in every if key in each.backends]

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
            others = [keyed for each, keyed in self._learners if each.number == learner.number]
            for account in self.among(keyed):
                if not any(account.backend.key in each for each in others):
                    account.unteach(learner)

    def tell_watchers(self, backend: Backend | None) -> None:
        """What may be done with a backend has changed, or with all if C{None}."""
        for queue in self._queues_at(None if backend is None else backend.key):
            queue.look_anew()
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
