"""C{Group}: a live set of backends that can serve the same requests.

Its state is its backends with their queues, which C{GroupBackends} keeps; the balancer; the waiters
for the first list of backends; whether the group has a list to choose from; and whether it is
closed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kolus.backend import AnyBackend, Backend, named, several
from kolus.balance import Balancer, Feedback, usable
from kolus.errors import Closed, LeaseError
from kolus.group.first_list import FirstList
from kolus.group.group_backends import GroupBackends, by_keys
from kolus.group.group_use import GroupUse
from kolus.group.selection import Selection
from kolus.manager import (
    Managers,
    Waiter,
    as_waiter,
    backend_status,
    connect_from_the_start,
)
from kolus.status import GroupStatus
from kolus.support import check_done, check_seconds, failed
from kolus.watching import Owner, check_owner

if TYPE_CHECKING:
    from kolus.group.group_statuses import GroupStatuses
    from kolus.group.selector import Selector
    from kolus.lease import Lease
    from kolus.support import SteadyClock

__all__ = ["Group"]

P = TypeVar("P")
_log = Logger()


class Group(GroupUse[P]):
    """Leases connections to the best of several backends. C{pool.group(...)} makes it.

    The balancer chooses a backend for each request. If that has nothing ready, the request waits
    for all backends at once: the first of them that gets a connection ready serves it. If the
    balancer's attribute C{bound} is true, the request waits for the chosen backend only.

    @ivar kept: what is not to be forgotten while there is the group: its pool.
    """

    def __init__(
        self,
        left: Callable[[Sequence[Backend]], object],
        closed: Callable[[Group[Any]], object],
        managers: Managers,
        selector: Selector,
        clock: SteadyClock,
        balancer: Balancer,
        name: str | None,
        ident: Hashable = None,
    ) -> None:
        self.name = name
        self._ident = ident
        self._left = left
        self._told_closed = closed
        self._managers = managers
        self._selector = selector
        self._clock = clock
        self._source: Any = None
        self.kept: object = None
        self._closed = False
        self._has_list = False
        self._early = FirstList(self, clock, managers)
        self._candidates = GroupBackends(self, managers, clock, Feedback.of(balancer))
        self._selection = Selection(self._candidates, balancer)

    def start(self, source: Any) -> None:
        """Take the lists of backends from a source."""

        def told(backends: Sequence[Backend]) -> None:
            self._source = source  # if it told, it has started, even if C{start} fails after that
            self._told(backends)

        check_done(f"start of {source!r}", source.start(told))
        self._source = source
        if self._closed:  # an observer of the first list may have closed the pool
            self._stop_source()

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Its backends, in the source's order; empty until the source has told its first list."""
        return self.statuses.backends

    @property
    def statuses(self) -> GroupStatuses:
        """What the balancer chooses from."""
        return self._candidates.statuses

    @property
    def balancer(self) -> Balancer:
        """Chooses a backend for each request that comes without its own balancer.

        Setting it changes the choice of later requests.

        @raise TypeError: it is not callable. Nothing changes then.
        """
        return self._selection.balancer

    @balancer.setter
    def balancer(self, balancer: Balancer) -> None:
        self._selection = Selection(self._candidates, usable(balancer))
        if not self._closed:
            self._candidates.teach(Feedback.of(balancer))

    # Leasing

    def connect(
        self,
        ident: Hashable,
        *,
        timeout: float | None = None,
        owner: Owner | None = None,
        exclude: Collection[AnyBackend] = (),
        balancer: Balancer | None = None,
        fresh: bool = False,
    ) -> Waiter[Lease[P]]:
        """Lease a connection to any of the backends.

        If connecting to one backend fails, another is tried, until the deadline.

        @param ident: whom the connection is for, as for C{Pool.connect}.
        @param timeout: seconds until the request fails; C{None}: the policy's C{acquire_timeout}.
        @param owner: as for C{Pool.connect}.
        @param exclude: backends that must not serve it, such as those that failed it before.
        @param balancer: chooses for this request; C{None}: the group's.
        @param fresh: as for C{Pool.connect}.
        @return: as C{Pool.connect}. C{ConnectFailed} and C{LeaseTimeout} name every backend that
            was C{tried}. Fails with C{NoBackend} if there is nothing to choose from, if the
            balancer raises or chooses no backend, or if the source told no list before the
            deadline; with C{Closed} if the group is closed. Cancelling removes the waiter.
        @raise ValueError: C{timeout} or C{exclude} is invalid.
        @raise TypeError: C{owner} cannot be an owner.
        """
        if timeout is not None or owner is not None or exclude:
            check_seconds("timeout", timeout)
            try:
                check_owner(owner)
            except LeaseError:
                return failed(Waiter)
        if not self._has_list or self._early.waiting:
            return self._connect_later(ident, timeout, owner, exclude, balancer, fresh)
        selection = self._selection
        if exclude or balancer is not None or fresh is not False:
            selection = self._select(self._excluded(exclude), balancer, fresh)
        return self._selector.connect(ident, selection, timeout, owner)

    def _connect_later(
        self,
        ident: Hashable,
        timeout: float | None,
        owner: Owner | None,
        exclude: Collection[AnyBackend],
        balancer: Balancer | None,
        fresh: bool,
    ) -> Waiter[Lease[P]]:
        """Wait for the first list. In C{connect} the function would make each request dearer."""
        excluded = self._excluded(exclude)

        def serve(left: float | None) -> Waiter[Lease[P]]:
            selection = self._select(excluded, balancer, fresh)
            return self._selector.connect(ident, selection, left, owner)

        return as_waiter(Deferred.fromCoroutine(self._early.connect(serve, timeout, owner)))

    def try_connect(
        self,
        ident: Hashable,
        *,
        owner: Owner | None = None,
        exclude: Collection[AnyBackend] = (),
        balancer: Balancer | None = None,
        fresh: bool = False,
    ) -> Lease[P] | None:
        """Lease a ready connection. None is made, and nothing waits.

        @return: a lease; C{None} if C{connect} would wait.
        @raise NoBackend: in the cases where C{connect} fails with it.
        @raise Closed: the group is closed.
        @raise LeaseError: C{owner} has ended.
        """
        check_owner(owner)
        self.check_open()
        if not self._candidates.by_key:
            return None
        selection = self._select(self._excluded(exclude), balancer, fresh)
        return self._selector.try_connect(ident, selection, owner)

    def _excluded(self, exclude: Collection[AnyBackend]) -> list[Backend]:
        return [Backend.of(each) for each in several("exclude", exclude)]

    def _select(self, excluded: list[Backend], balancer: Balancer | None, fresh: bool) -> Selection:
        if balancer is not None:
            feedback = Feedback.of(balancer)
            return Selection(self._candidates, usable(balancer), excluded, feedback, fresh=fresh)
        if excluded or fresh is not False:
            # The group's balancer is told of every lease of its backends anyway.
            return Selection(self._candidates, self.balancer, excluded, fresh=fresh)
        return self._selection

    def check_open(self) -> None:
        """
        @raise Closed: it is closed.
        """
        if self._closed:
            raise self._is_closed()

    def _is_closed(self) -> Closed:
        return Closed(f"{self!r} is closed")

    # The backends

    def _told(self, backends: Sequence[Backend]) -> None:
        """Called by the source with its new list of backends.

        @raise TypeError: it is not a sequence of Backends. Nothing changes then.
        @raise ValueError: it is empty, or a backend is in it twice. Nothing changes then.
        """
        if self._closed:
            return
        candidates = self._candidates
        before, now = candidates.by_key, by_keys(self, backends)
        candidates.change(now)
        self._selection = Selection(candidates, self.balancer)
        self._has_list = not self._closed
        _log.info(
            "{group}: {joined} joined, {left} left",
            group=repr(self),
            joined=named([each for each in backends if each.key not in before]),
            left=named([each for key, each in before.items() if key not in now]),
        )
        self._managers.limits.follow(before, now)
        self._managers.listed_again(now)
        candidates.change_queues()
        self._left([backend for key, backend in before.items() if key not in now])
        self._managers.records.probe_those_due(now)
        if self._ident is not None and self._managers.policy.min_idle:
            joined = [each for key, each in now.items() if key not in before]
            connect_from_the_start(self._managers, self._ident, joined)
        self._early.tell()

    def __contains__(self, backend: Backend) -> bool:
        return backend.key in self._candidates.by_key

    # Watching and ending

    def status(self, backends: Iterable[AnyBackend] | None = None) -> GroupStatus:
        """The numbers of the group, and of its backends.

        @param backends: which of them; C{None}: all.
        @raise ValueError: a backend is invalid.
        @raise TypeError: a backend has a wrong type, or C{backends} is a single backend.
        """
        asked = self.backends
        if backends is not None:
            asked = tuple(map(Backend.of, several("backends", backends)))
        since = self._candidates.queues.oldest_since()
        return GroupStatus(
            name=self.name,
            backends=tuple([backend_status(self._managers, each) for each in asked]),
            waiting=len(self._early.waiting) + self._candidates.queues.waiting(),
            ejected=self._candidates.panic.ejected,
            panics=self._candidates.panic.is_on,
            panicked=self._candidates.panic.requests,
            oldest_wait=None if since is None else self._clock.seconds() - since,
        )

    def close(self) -> None:
        """Stop the source and serve no more requests. Leases stay valid.

        Waiters fail with C{Closed}. The pool keeps the connections, for others that use these
        backends, until the policy's time-outs close them. Closing twice is harmless.
        """
        if self._closed:
            return
        self._closed = True
        self._has_list = False
        if self._source is not None:
            self._stop_source()
        self._candidates.stop()
        self._managers.limits.follow(self._candidates.by_key, {})
        self._early.fail_all(self._is_closed())
        self._candidates.queues.close(self._is_closed())
        self._told_closed(self)

    def _stop_source(self) -> None:
        try:
            self._source.stop()
        except Exception:
            _log.failure("{source!r} of {group} raised in stop", source=self._source, group=self)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<Group{name} of {len(self._candidates.by_key)} backends>"
