"""C{GroupUse}: what a group does with its leases besides giving them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from kolus.backend import AnyBackend, Backend, several
from kolus.group.run import Run
from kolus.watching import Owner

if TYPE_CHECKING:
    from kolus.balance import Balancer
    from kolus.lease import Lease

__all__ = ["GroupUse"]

P = TypeVar("P")


class GroupUse(Generic[P]):
    """The methods of a group that need no more than its C{connect}."""

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
