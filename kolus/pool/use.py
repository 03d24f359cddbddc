"""C{PoolUse}: what a pool does with its leases besides giving them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from kolus.backend import AnyBackend, Backend
from kolus.group import Group, Run
from kolus.interfaces import IKolusManager
from kolus.manager import as_waiter, warm_each
from kolus.support import check_seconds, check_whole
from kolus.watching import Owner

if TYPE_CHECKING:
    from kolus.lease import Lease
    from kolus.manager import Managers
    from kolus.support import SteadyClock

__all__ = ["PoolUse"]

P = TypeVar("P")


class PoolUse(Generic[P]):
    """The methods of a pool that need no more than its C{connect} and C{select}."""

    _clock: SteadyClock
    _managers: Managers
    connect: Callable[..., Deferred[Lease[P]]]
    select: Callable[..., Deferred[Lease[P]]]

    def run(
        self,
        ident: Hashable,
        where: AnyBackend | IKolusManager | Group[P] | Sequence[AnyBackend],
        function: Callable[[P], Any],
        *,
        idempotent: bool = False,
        retries: int = 1,
        timeout: float | None = None,
        owner: Owner | None = None,
    ) -> Deferred[Any]:
        """Lease a connection, call a function with its protocol, and settle the lease.

        When the function has ended well, the connection is released. When it has failed, the
        connection is finished, unless the policy's C{clean} says that nothing is under way on it.

        A connection that was idle may have been ended by its peer, and the function is the first to
        find out. So if C{idempotent} is true, the function is called again with another connection
        when the first was leased before, and ended before anything had come on it. Of a shared
        connection, what comes for any of its leases counts. What the function fails with otherwise
        is never repeated.

        @param ident: as for C{connect}.
        @param where: what C{connect} takes; a group; or a list or tuple of backends, as for
            C{select}.
        @param function: is called with the protocol. It may return a Deferred, a coroutine or any
            other awaitable, and the connection stays leased until that has ended.
        @param idempotent: whether the function may be called again although the backend may have
            done already what it asked for.
        @param retries: how often it is repeated at most. Each repetition goes to another backend,
            if there is one that can serve it; the last one has a fresh connection.
        @param timeout: seconds for everything: the waits for leases, and the function, in all
            attempts. C{None}: the policy's C{acquire_timeout} for all waits together, and no limit
            for the function.
        @param owner: as for C{connect}, for the lease of each attempt. If it ends while the
            function runs, the lease is finished, and the function learns it from the protocol.
        @return: fires with what the function gives. Fails with what it fails with; with what
            C{connect} or C{Group.connect} fail with; or with C{TimeoutError} if the time is over
            while the function runs, which is cancelled then. The error of a repetition has that of
            the attempt before it as its C{__context__}. Cancelling it cancels the wait or the
            function, and settles the lease at once.
        @raise ValueError: C{where}, C{idempotent}, C{retries} or C{timeout} is invalid.
        @raise TypeError: C{where} or C{owner} has a wrong type, or C{function} cannot be called.
        """
        settings: Any = {"idempotent": idempotent, "retries": retries, "timeout": timeout}
        if isinstance(where, Group):
            return where.run(ident, function, owner=owner, **settings)
        run = Run(self._clock, function, owner=owner, **settings)
        backends = _list_of(where)
        if backends is None:
            place: Any = where if IKolusManager.providedBy(where) else Backend.of(where)  # type: ignore[arg-type]

        def ask(
            timeout: float | None, lost: Collection[AnyBackend], fresh: bool
        ) -> Deferred[Lease[P]]:
            if backends is None:
                return self.connect(ident, place, timeout=timeout, owner=owner, fresh=fresh)
            return self.select(
                ident, backends, exclude=lost, timeout=timeout, owner=owner, fresh=fresh
            )

        elsewhere = backends is not None
        return run.begin(ask, self._managers.policy.acquire_timeout, elsewhere=elsewhere)

    def warm(
        self,
        where: AnyBackend | Group[P] | Sequence[AnyBackend],
        count: int = 1,
        timeout: float | None = None,
        *,
        ident: Hashable = None,
    ) -> Deferred[None]:
        """Make connections before anybody asks for a lease.

        Requests are served meanwhile. What is idle for other idents, or at other backends, makes
        way as it does for a request. With the policy's C{min_idle} the backend has that many from
        now on, too.

        @param where: a backend; a group; or a list or tuple of backends.
        @param count: how many connections should be ready, idle or leased; of a group or a list, at
            each of the backends.
        @param timeout: seconds until it fails; C{None}: the policy's C{acquire_timeout}.
        @param ident: whom the connections are for, as for C{connect}. C{None}: at each backend,
            for the ident that asks first, unless C{prepare} or a callable that makes endpoints is
            told for whom they are: name the ident then.
        @return: fires with C{None} as soon as they are ready. Fails with what prevents it at the
            first of the backends: with C{ConnectFailed} if a connect fails, but not if C{fail_fast}
            is false; with C{ValueError} if C{count} is more than the backend's limit, or than
            C{max_idle}; with C{LeaseTimeout} at the deadline, whose note says how many were ready;
            with C{Rejected} or C{Closed}, as C{connect}. Cancelling it ends the wait; connects that
            have begun go on.
        @raise ValueError: C{where}, C{count} or C{timeout} is invalid.
        @raise TypeError: C{where} has a wrong type.
        """
        if isinstance(where, Group):
            return where.warm(count, timeout, ident=ident)
        check_whole("count", count, 1)
        check_seconds("timeout", timeout)
        several_of_them = _list_of(where)
        if several_of_them is None:
            several_of_them = [Backend.of(where)]  # type: ignore[arg-type]
        return as_waiter(warm_each(self._managers, ident, several_of_them, count, timeout))


def _list_of(where: Any) -> Sequence[Backend] | None:
    """The backends, if these are several; C{None} if it is one. A pair C{(host, port)} is one."""
    is_pair = isinstance(where, tuple) and len(where) == 2 and isinstance(where[1], int)
    if is_pair or not isinstance(where, list | tuple):
        return None
    if not where:
        raise ValueError("there is no backend in the list")
    return [Backend.of(each) for each in where]
