"""C{Selector}: serves a request with a connection to one of several backends.

Its state is the queues for lists of backends. Each exists only while it has waiters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kolus.backend import Backend
from kolus.balance import draw_of
from kolus.errors import ConnectFailed, KolusError, LeaseTimeout, NoBackend, Rejected, describe
from kolus.group.live_status import LiveStatus, Statuses
from kolus.group.queue import GroupQueue
from kolus.group.selection import ListSelection, Selection
from kolus.group.servers import Servers
from kolus.health import Panic, Phase
from kolus.interfaces import IServesGroups
from kolus.manager import Managers, Snapshots, Waiter, ask, ask_now
from kolus.support import fired

if TYPE_CHECKING:
    from kolus.backend import AnyBackend, Backends
    from kolus.balance import Balancer
    from kolus.group.places import Tried
    from kolus.lease import Lease
    from kolus.watching import Owner

__all__ = ["Selector"]

_log = Logger()


class Selector:
    """Has the balancer choose a backend, and leases what is ready. Other requests are queued."""

    def __init__(self, managers: Managers, snapshots: Snapshots, clock: IReactorTime) -> None:
        self._managers = managers
        self._at = managers.at
        self._find_record = managers.records.find
        self._servers = Servers(managers)
        self.snapshots = snapshots
        self._clock = clock
        self._queues: dict[tuple[Hashable, frozenset[Hashable], bool], GroupQueue] = {}

    def connect(
        self,
        ident: Hashable,
        selection: Selection,
        timeout: float | None,
        owner: Owner | None,
        drawn: tuple[int, int] | None = None,
    ) -> Deferred[Lease[Any]]:
        """See C{Group.connect}.

        @param drawn: the two that C{selection.draw} has drawn, if anything.
        """
        try:
            statuses = selection.statuses
            draw, count = selection.draw, statuses.size
            if draw is not None and count > 1:  # as C{pick_two} does it
                first = int(draw() * count)
                second = int(draw() * (count - 1))
                if second >= first:
                    second += 1
                record = statuses.lighter_record(first, second)
                if record is not None:
                    sole = record.sole
                    if sole is not None and sole.ident == ident:  # it is well, and serves
                        lease = sole.try_connect(ident, owner)
                        if lease is not None:
                            return fired(Waiter, lease)
                drawn = first, second
            chosen = self._choose(selection, statuses, drawn)
            record = chosen.record
            sole = None if record is None or selection.fresh else record.sole
            if sole is not None and sole.ident == ident:  # the backend is well, and serves
                lease = sole.try_connect(ident, owner)
            else:
                self._give_to(chosen)
                lease = self._lease_at(ident, chosen.backend, owner, selection.fresh)
            if lease is not None:
                return fired(Waiter, lease)
            backend, is_lone = chosen.backend, selection.is_fixed and selection.statuses.size == 1
            if is_lone or getattr(selection.balancer, "bound", False):
                lone = self._managers.provide(ident, backend)
                return ask(lone, ident, timeout, owner, selection.fresh)
            return self._wait(ident, backend, selection, timeout, owner)
        except KolusError:
            return fail()

    def connect_any(
        self,
        ident: Hashable,
        backends: Sequence[AnyBackend],
        balancer: Balancer,
        exclude: Collection[AnyBackend],
        timeout: float | None,
        owner: Owner | None,
        fresh: bool,
    ) -> Deferred[Lease[Any]]:
        """See C{Pool.select}. What is served at once needs neither a selection nor statuses."""
        draw, drawn = draw_of(balancer), None
        count = len(backends)
        is_list = type(backends) in (list, tuple)  # to look at others twice may cost or tell more
        if draw is not None and is_list and not (exclude or fresh) and count > 1:
            first = int(draw() * count)
            second = int(draw() * (count - 1))
            if second >= first:
                second += 1
            one, other = backends[first], backends[second]
            if type(one) is Backend and type(other) is Backend:
                record, its = self._find_record(one.key), self._find_record(other.key)
                if record is not None and its is not None and record.noted > 0 and its.noted > 0:
                    load = record.noted - len(record.idle)
                    other_load = its.noted - len(its.idle)
                    lighter = its if other_load * one.weight < load * other.weight else record
                    sole = lighter.sole
                    if sole is not None and sole.ident == ident:
                        try:
                            lease = sole.try_connect(ident, owner)
                        except KolusError:
                            return fail()
                        if lease is not None:
                            return fired(Waiter, lease)
            drawn = first, second
        listed = ListSelection(self, self.snapshots, backends, balancer, exclude, fresh)
        return self.connect(ident, listed, timeout, owner, drawn)

    def try_connect(
        self,
        ident: Hashable,
        selection: Selection,
        owner: Owner | None,
    ) -> Lease[Any] | None:
        """See C{Group.try_connect}."""
        chosen = self._choose(selection, selection.statuses)
        lease = self._lease_at(ident, chosen.backend, owner, selection.fresh)
        if lease is not None:
            self._give_to(chosen)
        only = [getattr(selection.balancer, each, False) for each in ("bound", "prefers")]
        if lease is not None or any(only):
            return lease
        waiting = selection.queue(ident)
        try:
            return waiting.lease_ready(owner)
        finally:
            waiting.end_if_empty()

    def _choose(
        self,
        selection: Selection,
        statuses: Statuses,
        drawn: tuple[int, int] | None = None,
    ) -> LiveStatus:
        """What the balancer chooses of these.

        @param drawn: the two that it has drawn already, if it has.
        @raise NoBackend: there is nothing to choose from, or it raises, or chooses none of them.
        @raise ValueError: a backend that it looked at cannot be understood.
        @raise TypeError: it is none.
        """
        if not statuses.size:
            why = ": exclude names them all" if statuses.excluded else ""
            raise NoBackend(f"no backend to choose from{why}")
        balancer = selection.balancer
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
            raise NoBackend(
                f"the balancer {balancer!r} chose {chosen!r}, none of the {statuses.size} statuses"
            )
        if selection.feedback is not None:
            managers = self._managers
            managers.records.of(chosen.backend, managers.policy).teach(selection.feedback)
        return chosen

    def _give_to(self, chosen: LiveStatus) -> None:
        """Tell the health of a backend that it gets a request, and count it if it is in panic."""
        record = chosen.record
        if record is None:
            return
        if record.health.phase is Phase.EJECTED and chosen.among.panic is not None:
            chosen.among.panic.requests += 1
        record.health.chosen()

    def _is_probed(self, backend: Backend) -> bool:
        record = self._managers.records.find(backend.key)
        return record is not None and record.health.phase is Phase.PROBED

    def _lease_at(
        self, ident: Hashable, backend: Backend, owner: Owner | None, fresh: bool
    ) -> Lease[Any] | None:
        managers = self._at.get(backend.key)
        manager = managers.get(ident) if managers else None
        try:
            return None if manager is None else ask_now(manager, ident, owner, fresh)
        except Rejected:
            return None  # another backend may serve the request; if none does, it fails later

    def _wait(
        self,
        ident: Hashable,
        chosen: Backend,
        selection: Selection,
        timeout: float | None,
        owner: Owner | None,
    ) -> Deferred[Lease[Any]]:
        queue = selection.queue(ident)
        try:
            prefers = getattr(selection.balancer, "prefers", False)
            place = chosen if self._is_probed(chosen) else queue.place_for(chosen)
            if place != chosen or not (prefers or self._is_probed(chosen)):
                lease = queue.lease_ready(owner)
                if lease is not None:
                    self._warm(ident, chosen, queue)
                    return fired(Waiter, lease)
            try:
                manager: Any = self._place(ident, place, queue)
            except ConnectFailed:
                asked: Deferred[Lease[Any]] = fail()
            else:
                if IServesGroups.providedBy(manager):
                    choose = partial(self._choose_again, selection)
                    queue = self._still_open(queue, selection)
                    waiter = queue.wait(manager, timeout, owner, choose)
                    if not prefers:
                        queue.check_idle()
                    return waiter
                # It does not serve groups' queues.
                asked = ask(manager, ident, timeout, owner, selection.fresh)
            asking = self._ask_others(asked, ident, place, selection, timeout, owner)
            return Deferred.fromCoroutine(asking)
        finally:
            queue.end_if_empty()

    def _still_open(self, queue: GroupQueue, selection: Selection) -> GroupQueue:
        """The queue, or another one if it was closed while a manager was made: an observer can
        cancel its last request, or close the group.

        @raise Closed: the group is closed.
        """
        return selection.queue(queue.ident) if queue.is_closed else queue

    async def _ask_others(
        self,
        asked: Deferred[Lease[Any]],
        ident: Hashable,
        place: Backend,
        selection: Selection,
        timeout: float | None,
        owner: Owner | None,
    ) -> Lease[Any]:
        """Ask one backend after another, until one gives a lease or the time is over.

        @param asked: the result of asking the first, C{place}.
        """
        patience = self._managers.policy.acquire_timeout if timeout is None else timeout
        began, waited = self._clock.seconds(), 0.0
        tried: Tried = {}
        is_last = False
        while True:
            try:
                return await asked
            except LeaseTimeout as error:
                raise error.after(waited, tried) from error.last_error
            except ConnectFailed as error:
                if is_last:
                    raise
                failed = error
                tried[place] = error.reason
            waited = self._clock.seconds() - began
            other = self._choose_again(selection, tried)
            if other is None or (patience is not None and waited >= patience):
                raise ConnectFailed(failed.backend, failed.reason, failed.retry_in, tried)
            place = other
            left = None if patience is None else patience - waited
            queue = selection.queue(ident)
            try:
                manager: Any = self._place(ident, place, queue)
                is_last = IServesGroups.providedBy(manager)  # the queue tries all other backends
                if is_last:
                    choose = partial(self._choose_again, selection)
                    queue = self._still_open(queue, selection)
                    asked = queue.wait(manager, left, owner, choose, tried)
                else:
                    asked = ask(manager, ident, left, owner, selection.fresh)
            except ConnectFailed:
                asked = fail()
            finally:
                queue.end_if_empty()

    def _choose_again(self, selection: Selection, tried: Tried) -> Backend | None:
        """The backend where a request is tried next; C{None} if there is none, or the choice fails.
        What turns out not to be a backend is added to C{tried}. Other errors are logged, so that
        the request fails with the reasons why it could not be served."""
        while True:
            statuses = selection.without(tried)
            try:
                return self._choose(selection, statuses).backend
            except NoBackend:
                return None
            except Exception:
                if statuses.refused is None:
                    _log.failure("{balancer!r} cannot be used", balancer=selection.balancer)
                    return None
                given, why = statuses.refused
                tried[given] = why

    def _warm(self, ident: Hashable, chosen: Backend, queue: GroupQueue) -> None:
        """Another backend had something idle and served the request. Connect to the chosen one all
        the same, if C{GroupQueue.is_to_warm} says so."""
        if queue.is_to_warm(chosen):
            with suppress(KolusError):  # the request is served already
                self._servers.make(ident, chosen).placements.warm()

    def _place(self, ident: Hashable, place: Backend, queue: GroupQueue) -> Any:
        """The manager at which a request is placed.

        @raise ConnectFailed: no manager of C{place} can be made.
        @raise Rejected: no manager takes the request.
        """
        manager = self._managers.provide(ident, place)
        if IServesGroups.providedBy(manager) and not manager.admission.accepts(ident):
            for server in self._servers.of(ident, queue.backends):
                if server.serves():
                    return server
            manager.admission.refuse(ident)
        return manager

    # Queues

    def temporary_queue(self, ident: Hashable, backends: Backends, fresh: bool) -> GroupQueue:
        """The queue for a list of backends; made if there is none. It is closed when empty."""
        key = (ident, frozenset(backends), fresh)
        queue = self._queues.get(key)
        if queue is None:
            panic = self.panic_over(backends)
            queue = self.make_queue(
                *(ident, backends),
                may_serve=lambda backend: panic.is_on or self.is_well(backend),
                emptied=partial(self._drop, key),
                fresh=fresh,
            )
            self._queues[key] = queue
        return queue

    def panic_over(self, backends: Backends) -> Panic:
        """The panic of a list of backends: whether so few are well that all may serve. Nothing is
        logged."""
        panic = Panic(self._managers.records, is_told=False)
        panic.watch_over(backends)
        return panic

    def make_queue(
        self,
        ident: Hashable,
        backends: Backends,
        may_serve: Callable[[Backend], bool],
        emptied: Callable[[GroupQueue], object] | None = None,
        fresh: bool = False,
    ) -> GroupQueue:
        """A queue for these backends.

        @param may_serve: whether a backend's health lets it serve.
        @param emptied: called when the last waiter has left.
        """
        return GroupQueue(
            *(ident, backends, self._servers, self._clock, may_serve),
            timeout=self._managers.policy.acquire_timeout,
            arrivals=self._managers.records.arrivals,
            emptied=emptied,
            fresh=fresh,
        )

    def _drop(self, key: tuple[Hashable, frozenset[Hashable], bool], queue: GroupQueue) -> None:
        if self._queues.get(key) is queue:
            del self._queues[key]
            queue.close()

    def is_well(self, backend: Backend) -> bool:
        """Whether a backend's health lets it serve requests that were not placed there."""
        record = self._managers.records.find(backend.key)
        return record is None or record.health.phase is Phase.WELL
