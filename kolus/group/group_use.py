"""C{GroupUse}: what a group does with its leases besides giving them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from kolus.backend import AnyBackend, Backend, several
from kolus.group.run import Run
from kolus.manager import warm_each
from kolus.support import check_seconds, check_whole
from kolus.watching import Owner

if TYPE_CHECKING:
    from kolus.balance import Balancer
    from kolus.lease import Lease

__all__ = ["GroupUse"]

P = TypeVar("P")


class GroupUse(Generic[P]):
    """The methods of a group that only build on its C{connect}."""

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
        settings: Any = {"idempotent": idempotent, "retries": retries, "timeout": timeout}
        group: Any = self
        run = Run(group._clock, function, owner=owner, **settings)
        left_out = [Backend.of(each) for each in several("exclude", exclude)]

        def ask(
            timeout: float | None, lost: Collection[AnyBackend], fresh: bool
        ) -> Deferred[Lease[P]]:
            others = [*left_out, *lost]
            how: Any = {"owner": owner, "exclude": others, "balancer": balancer, "fresh": fresh}
            asked: Deferred[Lease[P]] = group.connect(ident, timeout=timeout, **how)
            return asked

        return run.begin(ask, group._managers.policy.acquire_timeout, elsewhere=True)

    def warm(
        self, count: int = 1, timeout: float | None = None, *, ident: Hashable = None
    ) -> Deferred[None]:
        """Make connections to each of the backends before anybody asks for a lease. See
        C{Pool.warm}.

        @param count: how many connections should be ready at each backend that the group has when
            it is called, or when its source tells the first list.
        @param timeout: as for C{Pool.warm}; the wait for that list included.
        @param ident: as for C{Pool.warm}.
        @return: as C{Pool.warm}. Fails with C{NoBackend} if the source tells no list before the
            deadline; with C{Closed} if the group is closed.
        @raise ValueError: C{count} or C{timeout} is invalid.
        """
        check_whole("count", count, 1)
        check_seconds("timeout", timeout)
        return Deferred.fromCoroutine(self._warm(count, timeout, ident))

    async def _warm(self, count: int, timeout: float | None, ident: Hashable) -> None:
        group: Any = self
        waited = 0.0
        if not (group._closed or group._candidates.by_key):
            began = group._clock.seconds()
            await group._early.wait(timeout, None)
            waited = group._clock.seconds() - began
        if group._closed:
            raise group._is_closed()
        if timeout is None:
            timeout = group._managers.policy.acquire_timeout
        left = None if timeout is None else max(0.0, timeout - waited)
        await warm_each(group._managers, ident, group.backends, count, left)
