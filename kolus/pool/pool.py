"""C{Pool}: leases connections to one backend, or to one of several.

Its state is its managers, which C{Managers} keeps, and its observers.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, TypeVar

from twisted.internet.interfaces import IProtocol, IProtocolFactory

from kolus.backend import AnyBackend, Backend, MakeEndpoint
from kolus.backoff import Rng
from kolus.balance import Balancer, usable
from kolus.errors import Closed, KolusError, LeaseError, shown
from kolus.events import Observer
from kolus.group import Group, Selector
from kolus.interfaces import IKolusManager
from kolus.lease import Lease
from kolus.manager import (
    ConnectionManager,
    MakeManager,
    Managers,
    Prober,
    Records,
    SharedManager,
    Waiter,
    as_waiter,
    ask,
    ask_now,
)
from kolus.policy import Policy
from kolus.pool.erlang_calls import ErlangCalls
from kolus.pool.forgotten import let_go_with
from kolus.pool.groups import Groups
from kolus.pool.operation import PoolOperation
from kolus.pool.use import PoolUse
from kolus.support import check_seconds, check_whole, failed, steady
from kolus.watching import Owner, check_owner

__all__ = ["Pool"]

P = TypeVar("P")


class Pool(PoolUse[P], ErlangCalls[P], PoolOperation):
    """Keeps connections to any number of backends, and leases them out.

    The first request for a backend makes a manager, which belongs to the ident of that request. The
    manager closes itself when it has had no connection for the policy's C{manager_idle_timeout};
    the next request makes another.
    """

    def __init__(
        self,
        reactor: Any,
        protocol: Callable[[], P],
        *,
        policy: Policy | None = None,
        limit: int | None = None,
        make_manager: MakeManager | None = None,
        make_endpoint: MakeEndpoint | None = None,
        observers: Iterable[Observer] = (),
        rng: Rng = random,
    ) -> None:
        """
        @param reactor: makes the connections. A clock is enough if all backends are endpoint
            objects.
        @param protocol: makes the protocol of each connection; a Protocol class will do. See
            L{protocol_factory} for a library's own factory.
        @param policy: all settings; C{Policy()} if C{None}.
        @param limit: the most connections of all backends together, those included that are being
            made or closed; C{None}: no limit but that of each backend, the policy's C{limit}. When
            it is reached and somebody waits for a backend that is below its own, the connection
            that is idle longest at any backend is closed. If none is idle, those who wait are
            served by arrival. C{resize_pool} changes it. It counts the connections of the
            managers that the pool makes itself.
        @param make_manager: makes the manager of a backend for an ident. The default makes a
            C{SharedManager} if the policy has C{slots}, otherwise a C{ConnectionManager}. If it
            raises, C{connect} raises the same; C{select} and groups try another backend.
        @param make_endpoint: makes the endpoint of a backend that is an endpoint string or object:
            it is called with the reactor and the C{Backend}. The default is C{Backend.connector}.
        @param observers: are called with every event of the managers that the pool makes itself.
        @param rng: source of the jitter of these managers.
        @raise ValueError: C{limit} is not a whole number of at least 1, or less than the
            C{min_idle} of C{policy}, or C{policy} has a C{keepalive} and no C{check}.
        @raise TypeError: C{protocol}, C{make_manager}, C{make_endpoint} or an observer is not
            callable, C{reactor} is neither a reactor nor a clock, C{policy} is not a C{Policy},
            C{observers} cannot be iterated over, or C{rng} has no C{random}.
        """
        if not callable(protocol):
            hint = ": see protocol_factory" if IProtocolFactory.providedBy(protocol) else ""
            hint = ": give the class itself" if IProtocol.providedBy(protocol) else hint
            raise TypeError(
                f"protocol must be callable without arguments, not {shown(protocol)}{hint}"
            )
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"policy must be a Policy, not {shown(policy)}")
        check_whole("limit", limit, 1, optional=True)
        for name, make in (("make_manager", make_manager), ("make_endpoint", make_endpoint)):
            if make is not None and not callable(make):
                raise TypeError(f"{name} must be callable, not {shown(make)}")
        if not isinstance(observers, Iterable):
            raise TypeError(f"observers must be several callables, not {shown(observers)}")
        if not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must have a method random, as random.Random(), not {shown(rng)}")
        self._observers = [_observer(each) for each in observers]
        self._reactor = reactor
        self._clock = clock = steady(reactor)
        self._protocol = protocol
        self._rng = rng
        policy = policy or Policy()
        policy.check_complete()
        if limit is not None and policy.min_idle > limit:
            raise ValueError(
                f"min_idle={policy.min_idle} is more than the pool's limit={limit}: so many "
                "connections cannot be idle; lower min_idle, or raise the pool's limit"
            )
        # Nothing here may refer to the pool itself, so that it is garbage if its user forgets it.
        its = weakref.ref(self)
        probe = None
        if policy.probe is not None:
            probe = Prober(lambda *what, **how: managers.connect(*what, **how), clock, policy).probe
        records = Records(
            clock,
            self._observers,
            rng,
            probe,
            connect=lambda record: managers.reconnect(record),
            limit=limit,
            make_endpoint=make_endpoint,
        )
        managers = Managers(policy, make_manager or (lambda *what: _make(its, *what)), records)
        if policy.min_idle:
            let_go_with(self, managers, reactor)
        self._selector = Selector(managers, clock)
        super().__init__(managers, Groups(managers, self._selector, clock))

    def add_observer(self, observer: Observer) -> None:
        """Have an observer called with every event from now on, as those of C{observers} are.

        @raise TypeError: it is not callable.
        """
        self._observers.append(_observer(observer))
        for record in self._managers.records:
            record.changed()

    # Leasing

    def connect(
        self,
        ident: Hashable,
        backend: AnyBackend | IKolusManager,
        *,
        timeout: float | None = None,
        owner: Owner | None = None,
        fresh: bool = False,
    ) -> Waiter[Lease[P]]:
        """Ask for a lease of a connection to one backend.

        @param ident: the user of the connection: a connection never serves another ident.
        @param backend: a C{Backend}, an endpoint string, a pair C{(host, port)}, or a manager of
            this pool.
        @param timeout: seconds until the request fails; the policy's C{acquire_timeout} if C{None}.
        @param owner: a Deferred, a Protocol, a Service or a task of asyncio. When it ends, the
            lease is finished, and a request that still waits is cancelled.
        @param fresh: whether it must be a connection that was never leased before this request, as
            for a retry after a connection that had gone stale. If the limit is reached, one that
            was leased before makes way for it. See L{IGivesFresh}.
        @return: as L{IKolusManager.connect}. Cancelling it removes the request from the queue.
            It is also an asynchronous context manager: C{async with pool.connect(...) as lease} is
            the same as C{async with await pool.connect(...) as lease}. A coroutine that asyncio
            runs cannot await it, and gets a C{RuntimeError}: see C{kolus.aio}.
        @raise ValueError: C{backend} or C{timeout} is invalid.
        @raise TypeError: C{backend}, C{owner} or C{fresh} has a wrong type, or the pool's
            C{make_manager} makes managers that cannot give C{fresh} connections.
        """
        try:
            manager = self._at[backend.key][ident]  # type: ignore[union-attr]
        except (AttributeError, KeyError):
            check_seconds("timeout", timeout)
            try:
                check_owner(owner)  # first: a refused owner must not leave a new manager behind
                manager = self._managers.find_or_make(ident, backend)
            except KolusError:
                return failed(Waiter)
        if fresh is not False:
            return ask(manager, ident, timeout, owner, fresh)
        asked: Any = manager.connect(ident, timeout, owner)
        if type(asked) is not Waiter:  # it is a user's own manager
            asked = as_waiter(asked)
        return asked  # type: ignore[no-any-return]

    def try_connect(
        self,
        ident: Hashable,
        backend: AnyBackend | IKolusManager,
        *,
        owner: Owner | None = None,
        fresh: bool = False,
    ) -> Lease[P] | None:
        """Lease at once or not at all, without a Deferred. No connection is made.

        @param owner: as for C{connect}.
        @param fresh: whether it must be an idle connection that was never leased.
        @return: a lease, or C{None} if C{connect} would have had to wait.
        @raise Rejected: C{WrongIdent} or C{Draining}, as C{connect} fails.
        @raise Closed: the pool is closed.
        @raise LeaseError: as C{connect} fails.
        @raise ValueError: C{backend} is invalid.
        @raise TypeError: as C{connect}.
        """
        manager: IKolusManager | None
        try:
            manager = self._at[backend.key][ident]  # type: ignore[union-attr]
        except (AttributeError, KeyError):
            manager = self._managers.find_for(ident, backend)
            if manager is None:
                if self._managers.closed:
                    raise Closed("the pool is closed") from None
                return None
        if fresh is not False:
            return ask_now(manager, ident, owner, fresh)
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
        fresh: bool = False,
    ) -> Waiter[Lease[P]]:
        """Ask for a lease of a connection to one of several backends.

        If the backend that the balancer chooses can serve the request at once, it does. Otherwise
        the request waits for all backends, and the first that can serves it. For a list that stays,
        C{group} does the same faster.

        @param balancer: chooses among the statuses of the backends; the policy's if C{None}.
        @param exclude: backends that must not serve the request, for a retry elsewhere.
        @param timeout: as for C{connect}.
        @param owner: as for C{connect}.
        @param fresh: as for C{connect}.
        @return: as C{Group.connect}.
        @raise ValueError: C{timeout} or C{exclude} is invalid, or a backend that the balancer looks
            at. If an invalid string is first looked at while the request waits, it counts as a
            backend that cannot serve.
        @raise TypeError: the balancer is not callable, C{backends} or C{exclude} is not a
            collection, or an element that is looked at, C{owner} or C{fresh} has a wrong type.
        """
        chosen_by = self.policy.balancer if balancer is None else balancer
        if timeout is not None or owner is not None:
            check_seconds("timeout", timeout)
            try:
                check_owner(owner)
            except LeaseError:
                return failed(Waiter)
        return self._selector.connect_any(
            ident, backends, chosen_by, exclude, timeout, owner, fresh
        )

    def group(
        self,
        source: Any | Iterable[AnyBackend],
        balancer: Balancer | None = None,
        name: str | None = None,
        *,
        ident: Hashable = None,
    ) -> Group[P]:
        """Make a group: a list of backends that serve the same requests, and that may change.

        It does what C{select} does, but keeps the list and the indices that its balancer needs to
        choose fast. It is open, and kept by the pool, until its C{close} is called, or the pool's.

        @param source: an C{ISource}, or the backends.
        @param balancer: chooses among the statuses of the backends; the policy's if C{None}.
        @param name: the name of the group in messages.
        @param ident: for whom the policy's C{min_idle} is kept ready at each of the backends, from
            the start. C{None}: for each ident from its first request at a backend on.
        @raise Closed: the pool is closed.
        @raise ValueError: a backend is invalid or given twice, or there is none.
        @raise TypeError: the balancer is not callable, or C{source} has a wrong type.
        """
        chosen_by = self.policy.balancer if balancer is None else usable(balancer)
        group: Group[P] = self._groups.make(source, chosen_by, name, ident)
        group.kept = self
        return group

    def _kind_for(self, ident: Hashable) -> tuple[type[Any], Callable[[], P], Policy]:
        """What the managers of an ident are: their class, their protocol, and their policy."""
        kind = ConnectionManager if self.policy.slots is None else SharedManager
        return kind, self._protocol, self.policy

    def _make(self, backend: Backend, ident: Hashable) -> IKolusManager:
        kind, protocol, policy = self._kind_for(ident)
        return kind(  # type: ignore[no-any-return]
            self._reactor,
            protocol,
            backend,
            ident,
            policy,
            observers=self._observers,
            record=self._managers.records.of(backend, policy),
            rng=self._rng,
        )

    def __repr__(self) -> str:
        state = "closed" if self._managers.closed else "open"
        return f"<Pool of {len(tuple(self._managers))} managers, {state}>"


def _observer(observer: Observer) -> Observer:
    if not callable(observer):
        raise TypeError(f"an observer must be callable with an event, not {shown(observer)}")
    return observer


def _make(its: weakref.ref[Pool[Any]], backend: Backend, ident: Hashable) -> IKolusManager:
    pool = its()
    if pool is None:
        raise Closed("the pool is forgotten: nobody refers to it any more")
    return pool._make(backend, ident)
