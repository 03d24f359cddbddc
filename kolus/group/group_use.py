"""C{GroupUse}: what a group does with its leases besides giving them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from kolus.backend import AnyBackend, Backend, several
from kolus.group.run import Run
from kolus.manager import as_waiter, warm_each
from kolus.support import check_seconds, check_whole
from kolus.watching import Owner

if TYPE_CHECKING:
    from kolus.balance import Balancer
    from kolus.group.first_list import FirstList
    from kolus.group.group_backends import GroupBackends
    from kolus.lease import Lease
    from kolus.manager import Managers
    from kolus.support import SteadyClock

__all__ = ["GroupUse"]

P = TypeVar("P")


class GroupUse(Generic[P]):
    """The methods of a group that only build on its C{connect}."""

    check_open: Callable[[], None]
    connect: Callable[..., Deferred[Lease[P]]]
    _candidates: GroupBackends
    _clock: SteadyClock
    _early: FirstList
    _ident: Hashable
    _managers: Managers

    def run(
        self,
        ident: Hashable,
        function: Callable[[P], Any],
        *,
        idempotent: bool = False,
        retries: int = 1,
        timeout: float | None = None,
        owner: Owner | None = None,
        exclude: Collection[AnyBackend] = (),
        balancer: Balancer | None = None,
    ) -> Deferred[Any]:
        """Lease a connection to any of the backends, call a function with its protocol, and settle
        the lease. See C{Pool.run}.

        A repetition goes to another backend if there is one that can serve it.

        @param exclude: as for C{connect}.
        @param balancer: as for C{connect}.
        @return: as C{Pool.run}.
        @raise ValueError: C{idempotent}, C{retries}, C{timeout} or C{exclude} is invalid.
        @raise TypeError: C{function} cannot be called, or C{owner} cannot be an owner.
        """
        run = Run(
            self._clock,
            function,
            idempotent=idempotent,
            retries=retries,
            timeout=timeout,
            owner=owner,
        )
        left_out = [Backend.of(each) for each in several("exclude", exclude)]

        def ask(
            timeout: float | None, lost: Collection[AnyBackend], fresh: bool
        ) -> Deferred[Lease[P]]:
            return self.connect(
                ident,
                timeout=timeout,
                owner=owner,
                exclude=[*left_out, *lost],
                balancer=balancer,
                fresh=fresh,
            )

        return run.begin(ask, self._managers.policy.acquire_timeout, elsewhere=True)

    def warm(
        self, count: int = 1, timeout: float | None = None, *, ident: Hashable = None
    ) -> Deferred[None]:
        """Make connections to each of the backends before anybody asks for a lease. See
        C{Pool.warm}.

        @param count: how many connections should be ready at each backend that the group has when
            it is called, or when its source tells the first list.
        @param timeout: as for C{Pool.warm}; the wait for that list included.
        @param ident: as for C{Pool.warm}; C{None}: for the group's own, if it has one.
        @return: as C{Pool.warm}. Fails with C{NoBackend} if the source tells no list before the
            deadline; with C{Closed} if the group is closed.
        @raise ValueError: C{count} or C{timeout} is invalid.
        """
        check_whole("count", count, 1)
        check_seconds("timeout", timeout)
        return as_waiter(Deferred.fromCoroutine(self._warm(count, timeout, ident)))

    async def _warm(self, count: int, timeout: float | None, ident: Hashable) -> None:
        self.check_open()
        waited = 0.0
        if not self._candidates.by_key:
            began = self._clock.seconds()
            await self._early.wait(timeout, None)
            waited = self._clock.seconds() - began
        self.check_open()
        if timeout is None:
            timeout = self._managers.policy.acquire_timeout
        left = None if timeout is None else max(0.0, timeout - waited)
        ident = self._ident if ident is None else ident
        await warm_each(self._managers, ident, self._candidates.statuses.backends, count, left)
