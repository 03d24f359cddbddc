"""C{Pool}: leases of any backend, and choosing among backends.

Its state is its managers, which C{Managers} keeps, and its observers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IProtocolFactory, ISystemHandle
from twisted.logger import Logger

from kolus.backend import AnyBackend, Backend, State, Status
from kolus.backoff import Rng
from kolus.balance import Balancer
from kolus.counters import Counters
from kolus.errors import Closed, KolusError, LeaseError, NoBackend, describe
from kolus.events import Observer
from kolus.explanation import ManagerExplanation, PoolExplanation
from kolus.interfaces import IKolusManager
from kolus.lease import Lease
from kolus.manager import ConnectionManager
from kolus.managers import MakeManager, Managers
from kolus.owners import Owner, check_owner
from kolus.policy import Policy, check_seconds
from kolus.shared import SharedManager

__all__ = ["Pool", "protocol_factory"]

P = TypeVar("P")
_log = Logger()


class Pool(Generic[P]):
    """Keeps connections to any number of backends, and leases them out.

    A manager is made for a backend when it is first asked for, belongs to the ident that asked,
    and goes away when it had no connection for long enough; C{pool.connect} then makes another.
    """

    def __init__(
        self,
        reactor: Any,
        protocol: Callable[[], P],
        *,
        policy: Policy | None = None,
        make_manager: MakeManager | None = None,
        observers: Iterable[Observer] = (),
        rng: Rng = random,
    ) -> None:
        """
        @param reactor: what connects. A clock is enough if every backend is made from an endpoint.
        @param protocol: makes the protocol of each connection, as a Protocol class does; see
            L{protocol_factory} for a library's own factory.
        @param policy: every number and time; C{Policy()} if C{None}.
        @param make_manager: makes the manager of a backend for an ident. If C{None} that is a
            C{SharedManager} where the policy has C{slots}, and else a C{ConnectionManager}.
        @param observers: told of every event of the managers that the pool makes itself.
        @param rng: where those managers' jitter comes from.
        @raise TypeError: C{protocol}, C{make_manager} or an observer cannot be called, or
            C{reactor} or C{policy} is none.
        """
        if not callable(protocol):
            hint = ": see protocol_factory" if IProtocolFactory.providedBy(protocol) else ""
            raise TypeError(f"protocol must be callable without arguments, not {protocol!r}{hint}")
        if not (hasattr(reactor, "callLater") and hasattr(reactor, "seconds")):
            raise TypeError(f"reactor must be a reactor or a clock, not {reactor!r}")
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"policy must be a Policy, not {policy!r}")
        if make_manager is not None and not callable(make_manager):
            raise TypeError(f"make_manager must be callable, not {make_manager!r}")
        self._observers = list(observers)
        for each in self._observers:
            if not callable(each):
                raise TypeError(f"an observer must be callable with an event, not {each!r}")
        self._reactor = reactor
        self._protocol = protocol
        self._rng = rng
        self._managers = Managers(policy or Policy(), make_manager or self._make)
        self._at = self._managers.at

    @property
    def policy(self) -> Policy:
        """What it was made with, but for the limit, which C{resize} changes."""
        return self._managers.policy

    # Leasing

    def connect(
        self,
        ident: Hashable,
        backend: AnyBackend | IKolusManager,
        *,
        timeout: float | None = None,
        owner: Owner | None = None,
    ) -> Deferred[Lease[P]]:
        """Ask for a lease of a connection to one backend.

        @param ident: whom the connection is for: it never serves another.
        @param backend: a C{Backend}, an endpoint string, a pair, or a manager of this pool.
        @param timeout: seconds until the request fails; the policy's C{acquire_timeout} if C{None}.
        @param owner: a Deferred, a Protocol or a Service: when it ends, so does the lease.
        @return: as L{IKolusManager.connect}; cancelling gives up the place in the queue.
        @raise ValueError: C{backend} or C{timeout} cannot be understood.
        @raise TypeError: C{backend} is no backend, or C{owner} can be no owner.
        """
        try:
            manager = self._at[backend.key][ident]  # type: ignore[union-attr]
        except (AttributeError, KeyError):
            check_seconds("timeout", timeout)
            try:
                check_owner(owner)  # or what it is refused for would leave a manager behind
                manager = self._managers.find_or_make(ident, backend)
            except KolusError:
                return fail()
        return manager.connect(ident, timeout, owner)

    def try_connect(
        self,
        ident: Hashable,
        backend: AnyBackend | IKolusManager,
        *,
        owner: Owner | None = None,
    ) -> Lease[P] | None:
        """Lease at once or not at all, without a Deferred.

        @param owner: as for C{connect}.
        @return: a lease, or C{None} if C{connect} would have had to wait. No connection is made.
        @raise Rejected: C{WrongIdent} or C{Draining}, as C{connect} fails.
        @raise Closed: the pool is closed.
        @raise LeaseError: as C{connect} fails.
        """
        manager = self._managers.find(ident, backend)
        if manager is None:
            if self._managers.closed:
                raise Closed("the pool is closed")
            return None
        return manager.try_connect(ident, owner)

    def select(
        self,
        ident: Hashable,
        backends: Iterable[AnyBackend],
        balancer: Balancer | None = None,
        *,
        timeout: float | None = None,
        owner: Owner | None = None,
    ) -> Deferred[Lease[P]]:
        """Ask for a lease of a connection to one of several backends.

        @param balancer: chooses among their statuses; the policy's if C{None}.
        @param owner: as for C{connect}.
        @return: as C{connect} to the chosen one. Fails with C{NoBackend} if there is none to
            choose from, or if the balancer raises or chooses none of them.
        @raise ValueError: a backend or C{timeout} cannot be understood.
        @raise TypeError: the balancer cannot be called.
        """
        if balancer is None:
            balancer = self.policy.balancer
        elif not callable(balancer):
            raise TypeError(f"balancer must be callable with statuses, not {balancer!r}")
        if backends is None:
            raise TypeError("backends must be several, not None")
        check_seconds("timeout", timeout)
        statuses = self.status(backends)
        try:
            chosen = self._choose(statuses, balancer)
        except NoBackend:
            return fail()
        return self.connect(ident, chosen.backend, timeout=timeout, owner=owner)

    def _choose(self, statuses: Sequence[Status], balancer: Balancer) -> Status:
        if not statuses:
            raise NoBackend("no backend to choose from")
        try:
            chosen = balancer(statuses)
        except Exception as error:
            _log.failure("the balancer {balancer!r} raised", balancer=balancer)
            raise NoBackend(f"the balancer {balancer!r} raised {describe(error)}") from error
        if not any(chosen is status for status in statuses):
            raise NoBackend(
                f"the balancer {balancer!r} chose {chosen!r}, none of the {len(statuses)} statuses"
            )
        return chosen

    # Settling and asking, under the names of the original

    def return_(self, lease: Lease[P]) -> None:
        """C{lease.release()}.

        @raise LeaseError: it is settled, or another pool's.
        """
        self._own(lease).release()

    def finished(self, lease: Lease[P]) -> None:
        """C{lease.finished()}.

        @raise LeaseError: it is settled, or another pool's.
        """
        self._own(lease).finished()

    def get_socket(self, lease: Lease[P]) -> Any:
        """What the connection's transport has as its system handle: a socket for TCP and UNIX.

        @raise LeaseError: the lease is settled or another pool's, or there is no such handle.
        """
        transport = getattr(self._own(lease).protocol, "transport", None)
        if not ISystemHandle.providedBy(transport):
            raise LeaseError(f"the connection of {lease!r} has no socket")
        return transport.getHandle()

    def get_manager(self, lease: Lease[P]) -> IKolusManager:
        """C{lease.manager}.

        @raise LeaseError: the lease is not of this pool.
        """
        return self._own(lease).manager

    def _own(self, lease: Lease[P]) -> Lease[P]:
        if not isinstance(lease, Lease):
            raise LeaseError(f"not a lease: {lease!r}")
        if lease.manager not in self._managers:
            raise LeaseError(f"{lease!r} is not of this pool")
        return lease

    # Watching

    def status(self, backends: Iterable[AnyBackend] | None = None) -> list[Status]:
        """The numbers of these backends, in their order; of all managers that run if C{None}.

        @raise ValueError: a backend cannot be understood.
        @raise TypeError: a backend is none, or C{backends} is a single one.
        """
        if backends is None:
            return [manager.status() for manager in self._managers]
        if isinstance(backends, str | Backend):
            raise TypeError(f"backends must be several, not one: {backends!r}")
        return [self._status(Backend.of(each)) for each in backends]

    def _status(self, backend: Backend) -> Status:
        managers = self._managers
        statuses = [each.status() for each in managers.of(backend)]
        if len(statuses) > 1:
            return Status.total(backend, statuses)
        if statuses:
            (status,) = statuses
            return status if backend is status.backend else replace(status, backend=backend)
        return Status(
            backend=backend,
            manager=None,
            ident=None,
            idle=None,
            leased=0,
            connecting=0,
            unused=None,
            waiting=0,
            limit=managers.limit(backend) * (self.policy.slots or 1),
            state=State.PAUSED if managers.is_paused(backend) else State.ABSENT,
        )

    def manager(self, backend: AnyBackend, ident: Hashable = None) -> IKolusManager | None:
        """The manager that serves a backend, if one does.

        @param ident: where each ident has its own manager: whose; any one's if C{None}.
        """
        managers = self._at.get(Backend.of(backend).key, {})
        return managers.get(ident) if ident is not None else next(iter(managers.values()), None)

    def counters(self, backend: AnyBackend | None = None) -> Counters:
        """What has happened at a backend since the pool was made, or at all of them.

        Counted are the managers that the pool makes itself, those gone by now included.

        @return: a copy.
        """
        accounts = self._managers.accounts
        if backend is None:
            return sum([each.counters for each in accounts.values()], Counters())
        account = accounts.get(Backend.of(backend).key)
        return Counters() if account is None else Counters() + account.counters

    def explain(self) -> PoolExplanation:
        """Who holds what, who waits and why, and how connecting went, for every manager.

        Of a backend without a manager it tells what the last attempt failed with, if it failed.

        @return: C{str} of it is a text for an operator.
        """
        told = [each.explain() for each in self._managers]
        for account in self._managers.accounts.values():
            if account.attempts.last_error is not None and not self._managers.of(account.backend):
                status = self._status(account.backend)
                told.append(ManagerExplanation.absent(status, account.attempts.last_error))
        return PoolExplanation(tuple(told))

    # Operating

    def pause(self, backend: AnyBackend | None = None) -> None:
        """Give no leases of a backend, or of any if C{None}, and connect to none, until C{resume}.

        Requests wait, each until its deadline; what is leased stays so. It holds for managers
        that are made later too.
        """
        self._managers.set_paused(None if backend is None else Backend.of(backend), True)

    def resume(self, backend: AnyBackend | None = None) -> None:
        """Serve again at a backend, or at all of them if C{None}; those who wait come first."""
        self._managers.set_paused(None if backend is None else Backend.of(backend), False)

    def resize(self, limit: int, backend: AnyBackend | None = None) -> None:
        """Set the limit of a backend, or of all that have no limit of their own if C{None}.

        A larger one serves those who wait at once; for a smaller one idle connections are closed
        now, and others as they come home. It holds for managers that are made later too.

        @raise ValueError: C{limit} is no whole number of at least 1.
        """
        self._managers.resize(limit, None if backend is None else Backend.of(backend))

    def invalidate(self, backend: AnyBackend | None = None) -> None:
        """Replace the connections to a backend, or to all if C{None}, that are open now.

        What is idle is closed now, the rest as it comes home. Leases that are out stay, and new
        ones are given as ever.
        """
        self._managers.check_process()
        for manager in tuple(
            self._managers if backend is None else self._managers.of(Backend.of(backend))
        ):
            manager.invalidate()

    # Ending

    def drain(self, backend: AnyBackend) -> Deferred[None]:
        """Give no new leases of a backend, wait for those that are out, and close its manager.

        Requests in its queue fail with C{Draining}, and so do new ones until it is closed; after
        that C{connect} makes a new manager.

        @return: fires with C{None} when no connection is left, at once if there is no manager.
            Cancelling it stops nothing.
        """
        return _when_all(self._managers.drain(Backend.of(backend)))

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """Close for ever: drain every backend for C{timeout} seconds at the most, then abort.

        Requests, those in queues too, fail with C{Closed}. Who still holds a lease when the time
        is over is told in the log. Closing twice is harmless, and may make the time shorter.

        @return: fires with C{None} when no connection is left. Cancelling it stops nothing.
        @raise ValueError: C{timeout} is no length of time.
        """
        check_seconds("timeout", timeout, optional=False)
        return _when_all(self._managers.close(timeout))

    def _make(self, backend: Backend, ident: Hashable) -> IKolusManager:
        kind = ConnectionManager if self.policy.slots is None else SharedManager
        return kind(
            *(self._reactor, self._protocol, backend, ident, self.policy),
            observers=self._observers,
            account=self._managers.account(backend),
            rng=self._rng,
        )

    def __repr__(self) -> str:
        state = "closed" if self._managers.closed else "open"
        return f"<Pool of {len(tuple(self._managers))} managers, {state}>"


def protocol_factory(factory: IProtocolFactory) -> Callable[[], Any]:
    """Turn a library's own factory into what C{Pool} takes.

    The factory is started once, now, and is given no address, since a pool's connections have
    none that matters.

    @raise TypeError: C{factory} is no C{IProtocolFactory}.
    """
    if not IProtocolFactory.providedBy(factory):
        raise TypeError(f"not an IProtocolFactory: {factory!r}")
    factory.doStart()

    def build() -> Any:
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        if protocol is None:
            raise ValueError(f"{factory!r} built no protocol")
        return protocol

    return build


def _when_all(each: list[Deferred[None]]) -> Deferred[None]:
    """Fires with C{None} when all of them have; cancelling it cancels none of them."""
    done: Deferred[None] = Deferred()
    DeferredList(each).addCallback(lambda _: done.callback(None))
    return done
