"""C{Group}: a live set of backends that can serve the same requests.

Its state is the members, the backends by their keys, a queue for each ident that has had to wait,
and for each ident and what its requests that wait exclude, who waits for the first list of
backends, how often a backend was chosen in panic, and whether the group is closed. The members, the
backends and the queues' change when the source tells another list.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kolus.backend import AnyBackend, Backend, Backends, named, several
from kolus.balance import Balancer, Feedback, usable
from kolus.errors import Closed, LeaseError, LeaseTimeout, PoolFull
from kolus.group.first_list import FirstList
from kolus.group.group_statuses import GroupStatuses
from kolus.group.selection import GroupSelection, Selection
from kolus.health import Panic
from kolus.manager import Managers
from kolus.status import GroupStatus
from kolus.support import check_seconds
from kolus.watching import Owner, check_owner

if TYPE_CHECKING:
    from kolus.group.live_status import Statuses
    from kolus.group.queue import GroupQueue
    from kolus.group.selector import Selector
    from kolus.lease import Lease

__all__ = ["Group"]

P = TypeVar("P")
Keys = frozenset[Hashable]
_NOTHING: Keys = frozenset()
_log = Logger()
_MOST_QUEUES = 64


class Keeper(Protocol):
    """Who made a group."""

    def left(self, backend: Backend) -> None:
        """A backend has left the group."""

    def closed(self, group: Group[Any]) -> None:
        """The group is closed."""


class Group(Generic[P]):
    """Leases of whichever backend is best, made by C{pool.group(...)}.

    A request is given to the backend that the balancer chooses. If nothing is ready there it waits
    for all at once, and the first lease that is settled, or connection that is made, at any of them
    serves it. A balancer with an attribute C{bound} that is true is taken at its word: the request
    waits at the chosen backend alone.

    @ivar statuses: what its balancer sees.
    """

    def __init__(
        self,
        keeper: Keeper,
        managers: Managers,
        selector: Selector,
        clock: IReactorTime,
        balancer: Balancer,
        name: str | None,
    ) -> None:
        self.name = name
        self._keeper = keeper
        self._managers = managers
        self._selector = selector
        self._snapshots = selector.snapshots
        self._clock = clock
        self.balancer = balancer
        self._source: Any = None
        self._closed = False
        self._backends: dict[Hashable, Backend] = {}
        self._queues: OrderedDict[tuple[Hashable, Keys], GroupQueue] = OrderedDict()
        self._early = FirstList(self, clock, managers)
        self._panic = Panic(managers.records)
        self._feedback = Feedback.of(balancer)
        self.draw = getattr(balancer, "draws_two_by", None)
        self.statuses = self._see([])

    def start(self, source: Any) -> None:
        """Hear from a source who the backends are."""
        source.start(self._told)
        self._source = source
        if self._closed:  # whoever heard of its first list has closed the pool
            self._stop_source()

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Who its backends are now, in the source's order; none until the source has told."""
        return self.statuses.backends

    # Leasing

    def connect(
        self,
        ident: Hashable,
        *,
        timeout: float | None = None,
        owner: Owner | None = None,
        exclude: Collection[AnyBackend] = (),
        balancer: Balancer | None = None,
    ) -> Deferred[Lease[P]]:
        """Ask for a lease of a connection to any of the backends.

        A connect that fails is tried again at another backend, until the deadline.

        @param ident: whom the connection is for, as for C{Pool.connect}.
        @param timeout: seconds until the request fails; the policy's C{acquire_timeout} if C{None}.
        @param owner: as for C{Pool.connect}.
        @param exclude: backends that are not to serve it, for a request that is repeated elsewhere.
        @param balancer: chooses for this request; the group's if C{None}.
        @return: as C{Pool.connect}. C{ConnectFailed} and C{LeaseTimeout} name every backend that
            was C{tried}. Fails with C{NoBackend} if none is left to choose from, if the balancer
            raises or chooses none, or if the source has told no list before the deadline; with
            C{Closed} if the group is closed. Cancelling gives up the place in the queue.
        @raise ValueError: C{timeout} or C{exclude} cannot be understood.
        @raise TypeError: C{owner} can be no owner.
        """
        if timeout is not None or owner is not None or exclude:
            check_seconds("timeout", timeout)
            try:
                check_owner(owner)
            except LeaseError:
                return fail()
        selection = self._selection(exclude, balancer) if exclude or balancer is not None else self
        if self._closed or self._early.waiting or not self._backends:
            return Deferred.fromCoroutine(self._connect_later(ident, timeout, owner, selection))
        return self._selector.connect(ident, selection, timeout, owner)

    def try_connect(
        self,
        ident: Hashable,
        *,
        owner: Owner | None = None,
        exclude: Collection[AnyBackend] = (),
        balancer: Balancer | None = None,
    ) -> Lease[P] | None:
        """Lease at once or not at all, without a Deferred.

        @return: a lease; C{None} if C{connect} would have had to wait. No connection is made.
        @raise NoBackend: as C{connect} fails.
        @raise Closed: the group is closed.
        @raise LeaseError: C{owner} has ended.
        """
        check_owner(owner)
        if self._closed:
            raise self._is_closed()
        if not self._backends:
            return None
        return self._selector.try_connect(ident, self._selection(exclude, balancer), owner)

    def _selection(self, exclude: Collection[AnyBackend], balancer: Balancer | None) -> Selection:
        if not exclude and balancer is None:
            return self
        excluded = [Backend.of(each) for each in several("exclude", exclude)]
        return GroupSelection(
            self, excluded, self.balancer if balancer is None else usable(balancer)
        )

    # As a selection

    is_fixed = False
    feedback = None  # its balancer hears of every lease of its backends

    def without(self, exclude: Collection[AnyBackend]) -> Statuses:
        """The same, without some backends."""
        return self.statuses.without([Backend.of(each) for each in exclude])

    def queue(self, ident: Hashable, exclude: Collection[Backend] = ()) -> GroupQueue:
        """Where the requests of C{ident} wait for any of the backends.

        @param exclude: without these, for as long as anybody waits there.
        @raise Closed: the group was closed while a request was tried elsewhere.
        """
        if self._closed:
            raise self._is_closed()
        left_out = frozenset([each.key for each in exclude]) if exclude else _NOTHING
        key = (ident, left_out)
        queue = self._queues.get(key)
        if queue is None:
            emptied = partial(self._drop, key) if exclude else None
            backends = self._backends_but(left_out)
            queue = self._selector.make_queue(ident, backends, self.may_serve, emptied)
            self._queues[key] = queue
            empty = [key for key, each in self._queues.items() if not each.waiting]
            for each in empty[:-_MOST_QUEUES]:
                self._queues.pop(each).close()
        return queue

    def _backends_but(self, left_out: Keys) -> dict[Hashable, Backend]:
        if not left_out:
            return self._backends
        return {key: each for key, each in self._backends.items() if key not in left_out}

    def _drop(self, key: tuple[Hashable, Keys], queue: GroupQueue) -> None:
        if self._queues.get(key) is queue:
            del self._queues[key]
            queue.close()

    def may_serve(self, backend: Backend) -> bool:
        """Whether a backend's health lets it serve."""
        return self._panic.is_on or self._selector.is_well(backend)

    async def _connect_later(
        self,
        ident: Hashable,
        timeout: float | None,
        owner: Owner | None,
        selection: Selection,
    ) -> Lease[P]:
        if self._closed:
            raise self._is_closed()
        most = self._managers.policy.most_waiters(self._managers.policy.limit)
        if len(self._early.waiting) >= most:
            raise PoolFull(f"{self!r} has no backends yet, and {most} requests wait for them")
        began = self._clock.seconds()
        await self._early.wait(timeout, owner)
        waited = self._clock.seconds() - began
        if timeout is None:
            timeout = self._managers.policy.acquire_timeout
        left = None if timeout is None else max(0.0, timeout - waited)
        if self._closed:
            raise self._is_closed()
        try:
            return await self._selector.connect(ident, selection, left, owner)
        except LeaseTimeout as error:
            raise error.after(waited) from error.last_error

    def _is_closed(self) -> Closed:
        return Closed(f"{self!r} is closed")

    # The backends

    def _told(self, backends: Sequence[Backend]) -> None:
        """Called by the source: these are the backends now.

        @raise TypeError: they are no sequence of Backends. Nothing has changed.
        @raise ValueError: there is none, or one is told twice. Nothing has changed.
        """
        if self._closed:
            return
        before, self._backends = self._backends, self._keyed(backends)
        _log.info(
            "{group}: {joined} joined, {left} left",
            group=self,
            joined=named([each for each in backends if each.key not in before]),
            left=named([each for key, each in before.items() if key not in self._backends]),
        )
        self._forget(before)
        self.statuses = self._see(backends)
        self._managers.records.delist(before)
        self._managers.follow(before, self._backends)
        self._managers.welcome_back(self._backends)
        for whose, queue in tuple(self._queues.items()):
            if self._queues.get(whose) is queue:  # else whom another has served has closed it
                queue.change(self._backends_but(whose[1]))
        for key, backend in before.items():
            if key not in self._backends:
                self._keeper.left(backend)
        self._managers.records.probe_those_due(self._backends)
        self._early.tell()

    def _keyed(self, backends: Sequence[Backend]) -> dict[Hashable, Backend]:
        """What a source tells, by their keys; it may be anybody's."""
        if not isinstance(backends, Sequence) or isinstance(backends, str | bytes):
            raise TypeError(f"the source of {self!r} must tell a sequence, not {backends!r}")
        keyed: dict[Hashable, Backend] = {}
        for each in backends:
            if not isinstance(each, Backend):
                raise TypeError(f"the source of {self!r} must tell Backends, not {each!r}")
            if each.key in keyed:
                raise ValueError(f"the source of {self!r} tells {each} twice")
            keyed[each.key] = each
        if not keyed:
            raise ValueError(f"the source of {self!r} tells no backend")
        return keyed

    def _see(self, backends: Sequence[Backend]) -> GroupStatuses:
        records = self._managers.records
        records.enlist(self._backends)
        if self._feedback is not None:
            records.teach(self._feedback, self._backends)
        self._panic.watch_over(self._backends)
        return GroupStatuses(backends, self._snapshots, records, self._panic)

    def _forget(self, backends: Backends) -> None:
        """Hear no more of backends that were told of before."""
        self.statuses.stop()
        if self._feedback is not None:
            self._managers.records.unteach(self._feedback, backends)

    def __contains__(self, backend: Backend) -> bool:
        return backend.key in self._backends

    # Watching and ending

    def status(self) -> GroupStatus:
        """The numbers of the group and of each of its backends."""
        queued = sum([len(each.waiting) for each in self._queues.values()])
        return GroupStatus(
            name=self.name,
            backends=tuple(map(self._snapshots.snapshot, self.backends)),
            waiting=len(self._early.waiting) + queued,
            ejected=self._panic.ejected,
            panics=self._panic.is_on,
            panicked=self._panic.requests,
        )

    def close(self) -> None:
        """Stop the source, and serve no more requests; what is leased stays so.

        Requests that wait fail with C{Closed}. The connections stay the pool's, for others that
        use these backends, and go away with the policy's time-outs. Closing twice is harmless.
        """
        if self._closed:
            return
        self._closed = True
        if self._source is not None:
            self._stop_source()
        self._forget(self._backends)
        self._managers.records.delist(self._backends)
        self._managers.follow(self._backends, {})
        self._early.fail_all(self._is_closed())
        for queue in tuple(self._queues.values()):
            queue.close(self._is_closed())
        self._queues.clear()
        self._keeper.closed(self)

    def _stop_source(self) -> None:
        try:
            self._source.stop()
        except Exception:
            _log.failure("{source!r} of {group} raised in stop", source=self._source, group=self)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<Group{name} of {len(self._backends)} backends>"
