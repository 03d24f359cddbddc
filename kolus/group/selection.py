"""C{Selection}: the backends that may serve a request, and the balancer that chooses one."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from kolus.balance import Balancer, Feedback, draw_of
from kolus.errors import NoBackend, describe
from kolus.group.live_status import LiveStatus
from kolus.support import check_flag

if TYPE_CHECKING:
    from kolus.backend import AnyBackend, Backend
    from kolus.group.group_backends import GroupBackends
    from kolus.group.openings import Tried
    from kolus.group.queue import GroupQueue
    from kolus.group.statuses import ListStatuses, Statuses

__all__ = ["Selection"]

_log = Logger()


class Selection:
    """Some or all of a list or a group, and a balancer.

    @ivar statuses: the statuses that the balancer chooses from at first.
    @ivar draw: how the balancer draws, if all it does is to take the less loaded of two, and all
        backends may serve.
    @ivar fresh: whether the connection must never have been leased.
    """

    __slots__ = ("_candidates", "_exclude", "_feedback", "balancer", "draw", "fresh", "statuses")

    def __init__(
        self,
        candidates: GroupBackends | ListStatuses,
        balancer: Balancer,
        exclude: Collection[AnyBackend] = (),
        feedback: Feedback | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        """
        @param candidates: what to choose from. Of a group, later choices see its newest list.
        @param exclude: backends that must not serve the request.
        @param feedback: is told of the leases of the chosen backend. C{None} if the balancer does
            not observe leases, or is told of them anyway.
        """
        self._candidates = candidates
        self._exclude = exclude
        self._feedback = feedback
        self.balancer = balancer
        if fresh is not False:
            check_flag("fresh", fresh)
        self.fresh = fresh
        self.statuses = candidates.without(exclude) if exclude else candidates.statuses
        has_two = self.statuses.size > 1 and not (exclude or fresh)
        self.draw = draw_of(balancer) if has_two else None

    @property
    def prefers(self) -> bool:
        """Whether the balancer prefers a new connection to its choice to an idle one elsewhere."""
        return bool(getattr(self.balancer, "prefers", False))

    @property
    def is_bound(self) -> bool:
        """Whether only the chosen backend may serve the request."""
        is_lone = self._candidates.is_fixed and self.statuses.size == 1
        return is_lone or bool(getattr(self.balancer, "bound", False))

    def queue(self, ident: Hashable) -> GroupQueue:
        """The queue of the requests of C{ident} for any of these backends.

        @raise Closed: the group is closed.
        """
        return self._candidates.queue(ident, self._exclude, self.fresh)

    def choose_again(self, tried: Tried) -> Backend | None:
        """Have the balancer choose where a request is tried next.

        @param tried: the backends that could not serve it. What turns out not to be a backend is
            added.
        @return: C{None} if there is none, or the choice fails. Errors are logged, so that the
            request fails with the reasons why it could not be served.
        """
        while True:
            statuses = self._candidates.without([*self._exclude, *tried])
            try:
                return self.choose(statuses).backend
            except NoBackend:
                return None
            except Exception:
                if statuses.refused is None:
                    _log.failure("{balancer!r} cannot be used", balancer=self.balancer)
                    return None
                given, why = statuses.refused
                tried[given] = why

    def choose(self, statuses: Statuses, drawn: tuple[int, int] | None = None) -> LiveStatus:
        """Have the balancer choose one of these.

        @param drawn: the two that C{draw} has drawn already, if it has.
        @raise NoBackend: there is nothing to choose from, or it raises, or chooses none of them.
        @raise ValueError: a backend that it looked at cannot be understood.
        @raise TypeError: it is none.
        """
        balancer = self.balancer
        if not statuses.size:
            why = f": exclude names {self._candidates.all_named()}" if statuses.excluded else ""
            raise NoBackend(f"no backend to choose from{why}")
        try:
            chosen = balancer(statuses, *(drawn,) if drawn else ())
        except Exception as error:
            if statuses.refused is not None and statuses.refused[1] is error:
                raise
            _log.failure("the balancer {balancer!r} raised", balancer=balancer)
            raise NoBackend(f"the balancer {balancer!r} raised {describe(error)}") from error
        among = statuses.among
        if (
            type(chosen) is not LiveStatus
            or chosen.among is not among
            or (among is not statuses and chosen.backend.key in statuses.excluded)
        ):
            hint = ": it makes balancers, so give what it returns" if callable(chosen) else ""
            raise NoBackend(
                f"the balancer {balancer!r} chose {chosen!r}, none of the {statuses.size} "
                f"statuses{hint}"
            )
        if self._feedback is not None:
            managers = statuses.managers
            managers.records.of(chosen.backend, managers.policy).feedbacks.teach(self._feedback)
        return chosen
