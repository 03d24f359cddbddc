"""C{Pool}: leases of any backend, and choosing among backends.

Its state is its managers, which C{Managers} keeps, and its observers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocolFactory, ISystemHandle

from kolus.backend import AnyBackend, Backend, several
from kolus.backoff import Rng
from kolus.balance import Balancer, usable
from kolus.errors import Closed, KolusError, LeaseError
from kolus.events import Observer
from kolus.group import Group, Groups, Selector
from kolus.interfaces import IKolusManager
from kolus.lease import Lease
from kolus.manager import (
    ConnectionManager,
    MakeManager,
    Managers,
    Prober,
    Records,
    SharedManager,
    Snapshots,
)
from kolus.policy import Policy
from kolus.pool_operation import PoolOperation
from kolus.support import check_seconds
from kolus.watching import Owner, check_owner

__all__ = ["Pool"]

P = TypeVar("P")


class Pool(PoolOperation, Generic[P]):
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
            C{SharedManager} where the policy has C{slots}, and else a C{ConnectionManager}. What it
            raises C{connect} raises, too; C{select} and groups try another backend.
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
        policy = policy or Policy()
        probe = None if policy.probe is None else Prober(self._connect_to, reactor, policy).probe
        records = Records(reactor, self._observers, rng, probe)
        managers = Managers(policy, make_manager or self._make, records)
        snapshots = Snapshots(managers)
        self._selector = Selector(managers, snapshots, reactor)
        super().__init__(managers, snapshots, Groups(managers, self._selector, reactor))

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
        exclude: Collection[AnyBackend] = (),
        timeout: float | None = None,
        owner: Owner | None = None,
    ) -> Deferred[Lease[P]]:
        """Ask for a lease of a connection to one of several backends.

        The balancer's choice serves the request if it can at once. Else it waits for all of the
        backends, and whichever can first serves it. C{group} does the same for a list that stays,
        and remembers more.

        @param balancer: chooses among their statuses; the policy's if C{None}.
        @param exclude: backends that are not to serve it, for a request that is repeated elsewhere.
        @param owner: as for C{connect}.
        @return: as C{Group.connect}.
        @raise ValueError: C{timeout}, C{exclude}, or a backend that is looked at, cannot be
            understood. A string that is looked at only while the request waits is a backend that
            could not serve.
        @raise TypeError: the balancer cannot be called, C{backends} or C{exclude} are not several,
            or what is looked at is no backend.
        """
        chosen_by = self.policy.balancer if balancer is None else usable(balancer)
        several("backends", backends)
        if timeout is not None or owner is not None:
            check_seconds("timeout", timeout)
            try:
                check_owner(owner)
            except LeaseError:
                return fail()
        listed = backends if isinstance(backends, Sequence) else tuple(backends)
        choice = self._selector.among(listed, chosen_by, exclude)
        return self._selector.connect(ident, choice, timeout, owner)

    def group(
        self,
        source: Any | Iterable[AnyBackend],
        balancer: Balancer | None = None,
        name: str | None = None,
    ) -> Group[P]:
        """Make a live set of backends that can serve the same requests.

        What C{select} does for one list, a group does for a list that it keeps: it remembers what
        its balancer needs to choose quickly, and its backends may come and go.

        @param source: an C{ISource}, or the backends themselves.
        @param balancer: chooses among their statuses; the policy's if C{None}.
        @param name: what messages call it.
        @raise Closed: the pool is closed.
        @raise ValueError: a backend cannot be understood or is given twice, or there is none.
        @raise TypeError: the balancer cannot be called, or C{source} is neither.
        """
        chosen_by = self.policy.balancer if balancer is None else usable(balancer)
        return self._groups.make(source, chosen_by, name)

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

    def _connect_to(
        self, ident: Hashable, backend: Backend, timeout: float | None
    ) -> Deferred[Lease[P]]:
        """As C{connect}, for a probe: a backend that is of no use is one that fails it."""
        return self._managers.provide(ident, backend).connect(ident, timeout)

    def _make(self, backend: Backend, ident: Hashable) -> IKolusManager:
        kind = ConnectionManager if self.policy.slots is None else SharedManager
        return kind(
            *(self._reactor, self._protocol, backend, ident, self.policy),
            observers=self._observers,
            record=self._managers.records.of(backend, self.policy),
            rng=self._rng,
        )

    def __repr__(self) -> str:
        state = "closed" if self._managers.closed else "open"
        return f"<Pool of {len(tuple(self._managers))} managers, {state}>"
