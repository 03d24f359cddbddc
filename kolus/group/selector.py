"""C{Selector}: serves a request with a connection to one of several backends.

What the chosen backend has ready is leased at once. Other requests wait in a queue.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from kolus.backend import Backend, several
from kolus.balance import Feedback, another, draw_of, two_of, usable
from kolus.errors import ConnectFailed, KolusError, LeaseTimeout, Rejected
from kolus.group.group_managers import GroupManagers
from kolus.group.queues import Queues
from kolus.group.selection import Selection
from kolus.group.statuses import ListStatuses
from kolus.health import Phase
from kolus.interfaces import IServesGroups
from kolus.manager import Managers, Waiter, as_waiter, ask, ask_now, head_start
from kolus.support import failed, fired

if TYPE_CHECKING:
    from kolus.backend import AnyBackend
    from kolus.balance import Balancer
    from kolus.group.live_status import LiveStatus
    from kolus.group.openings import Tried
    from kolus.group.queue import GroupQueue
    from kolus.lease import Lease
    from kolus.support import SteadyClock
    from kolus.watching import Owner

__all__ = ["Selector"]

_LISTS = (list, tuple)


class Selector:
    """Has the balancer choose a backend, and leases what is ready. Other requests are queued."""

    def __init__(self, managers: Managers, clock: SteadyClock) -> None:
        self._managers = managers
        self._at = managers.at
        self._find_load = managers.records.find_load
        self._sick = managers.records.sick
        self._recovery = managers.records.recovery
        self._group_managers = GroupManagers(managers)
        self._clock = clock
        self._queues_of_lists = Queues(managers, clock)

    def connect(
        self,
        ident: Hashable,
        selection: Selection,
        timeout: float | None,
        owner: Owner | None,
    ) -> Waiter[Lease[Any]]:
        """See C{Group.connect}."""
        if self._sick:
            self._clock.look()  # the end of an ejection may be overdue
            self._recovery.asked()
        draw, drawn = selection.draw, None
        if draw is not None:
            statuses: Any = selection.statuses
            first = second = int(draw() * statuses.size)
            load = statuses.loads[first]
            if load is None or load.noted - len(load.idle) != 1 or not statuses.is_even:
                second = another(draw, statuses.size, first)
                load = statuses.lighter_load(first, second)
            sole = None if load is None else load.sole
            if sole is not None and sole.ident == ident:  # it is well, and serves
                try:
                    lease = sole.try_connect(ident, owner)
                except KolusError:
                    return failed(Waiter)
                if lease is not None:
                    return fired(Waiter, lease)
            drawn = first, second
        return self._connect_to_chosen(ident, selection, timeout, owner, drawn)

    def connect_any(
        self,
        ident: Hashable,
        backends: Iterable[AnyBackend],
        balancer: Balancer,
        exclude: Collection[AnyBackend],
        timeout: float | None,
        owner: Owner | None,
        fresh: bool,
    ) -> Waiter[Lease[Any]]:
        """See C{Pool.select}. What is served at once needs neither a selection nor statuses."""
        if self._sick:
            self._clock.look()
            self._recovery.asked()
        draw, drawn = draw_of(balancer), None
        listed: Any = backends
        if type(listed) not in _LISTS:  # to look at it twice may cost or tell more
            several("backends", listed)
            listed = listed if isinstance(listed, Sequence) else tuple(listed)
        elif draw is not None and not exclude and fresh is False and len(listed) > 1:
            first, second = drawn = two_of(draw, len(listed))
            one, other = listed[first], listed[second]
            if type(one) is Backend and type(other) is Backend:
                load = self._find_load(one.key)
                if load is not None and (
                    load.noted - len(load.idle) != 1 or one.weight < other.weight
                ):
                    its = self._find_load(other.key)
                    load = None if its is None else load.lighter(its, one.weight, other.weight)
                sole = None if load is None else load.sole
                if sole is not None and sole.ident == ident:
                    try:
                        lease = sole.try_connect(ident, owner)
                    except KolusError:
                        return failed(Waiter)
                    if lease is not None:
                        return fired(Waiter, lease)
        usable(balancer)
        candidates = ListStatuses(listed, self._queues_of_lists)
        excluded = [Backend.of(each) for each in several("exclude", exclude)] if exclude else ()
        selection = Selection(candidates, balancer, excluded, Feedback.of(balancer), fresh=fresh)
        return self._connect_to_chosen(ident, selection, timeout, owner, drawn)

    def _connect_to_chosen(
        self,
        ident: Hashable,
        selection: Selection,
        timeout: float | None,
        owner: Owner | None,
        drawn: tuple[int, int] | None,
    ) -> Waiter[Lease[Any]]:
        """Have the balancer choose, and lease there, or wait.

        @param drawn: the two that were drawn for the balancer and gave no lease, if any; twice the
            same if no other could be less loaded.
        """
        try:
            chosen = selection.choose(selection.statuses, drawn)
            record = chosen.record
            sole = None if record is None or selection.fresh else record.load.sole
            is_probe = False
            if sole is not None and sole.ident == ident:  # the backend is well, and serves
                lease = sole.try_connect(ident, owner)
            else:
                is_probe = self._give_to(chosen)
                lease = self._lease_at(ident, chosen.backend, owner, selection.fresh)
            if lease is not None:
                return fired(Waiter, lease)
            backend = chosen.backend
            if selection.is_bound:
                bound = self._managers.provide(ident, backend)
                return ask(bound, ident, timeout, owner, selection.fresh)
            return self._wait(ident, backend, selection, timeout, owner, is_probe)
        except KolusError:
            return failed(Waiter)

    def try_connect(
        self, ident: Hashable, selection: Selection, owner: Owner | None
    ) -> Lease[Any] | None:
        """See C{Group.try_connect}."""
        chosen = selection.choose(selection.statuses)
        lease = self._lease_at(ident, chosen.backend, owner, selection.fresh)
        if lease is not None:
            self._give_to(chosen)
        if lease is not None or selection.is_bound or selection.prefers:
            return lease
        waiting = selection.queue(ident)
        try:
            return waiting.lease_ready(owner)
        finally:
            waiting.end_if_empty()

    def _give_to(self, chosen: LiveStatus) -> bool:
        """Tell the health of a backend that it gets a request, and count it if it is in panic.

        @return: whether the request is the backend's probe.
        """
        record = chosen.record
        if record is None:
            return False
        if record.health.phase is Phase.EJECTED and chosen.among.panic is not None:
            chosen.among.panic.requests += 1
        return record.health.chosen()

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
        is_probe: bool,
    ) -> Waiter[Lease[Any]]:
        queue = selection.queue(ident)
        try:
            is_choosy = is_probe or selection.prefers
            lease = None if is_choosy else self._lease_ready(ident, chosen, queue, owner)
            if lease is not None:
                return fired(Waiter, lease)
            start = None
            if owner is None and queue.may_start(chosen):
                start = head_start(self._group_managers.find(ident, chosen))
            if start is not None:
                if start.lease is not None:
                    return fired(Waiter, start.lease)
                try:
                    return self._wait_at(ident, chosen, queue, selection, timeout, owner)
                finally:
                    start.go_on()
            place = chosen if is_probe else queue.place_for(chosen)
            if place != chosen and is_choosy:
                lease = self._lease_ready(ident, chosen, queue, owner)
                if lease is not None:
                    return fired(Waiter, lease)
            waiter = self._wait_at(ident, place, queue, selection, timeout, owner)
            if is_probe:
                waiter.probes = place
            return waiter
        finally:
            queue.end_if_empty()

    def _wait_at(
        self,
        ident: Hashable,
        place: Backend,
        queue: GroupQueue,
        selection: Selection,
        timeout: float | None,
        owner: Owner | None,
    ) -> Waiter[Lease[Any]]:
        """Queue a request, and place it at a backend."""
        try:
            manager: Any = self._place(ident, place, queue)
        except ConnectFailed:
            asked: Deferred[Lease[Any]] = failed(Waiter)
        else:
            if IServesGroups.providedBy(manager):
                return self._queue_at(manager, queue, selection, timeout, owner)
            # It does not serve groups' queues.
            asked = ask(manager, ident, timeout, owner, selection.fresh)
        asking = self._ask_others(asked, ident, place, selection, timeout, owner)
        return as_waiter(Deferred.fromCoroutine(asking))

    def _queue_at(
        self,
        manager: Any,
        queue: GroupQueue,
        selection: Selection,
        timeout: float | None,
        owner: Owner | None,
        tried: Tried | None = None,
    ) -> Waiter[Lease[Any]]:
        """Queue a request, and place it at a manager. What is idle anywhere serves it.

        @raise Closed: the group is closed.
        """
        if queue.is_closed:  # an observer cancelled its last request while the manager was made
            queue = selection.queue(queue.ident)
        waiter = queue.wait(manager, timeout, owner, selection.choose_again, tried)
        if not selection.prefers:
            queue.check_idle()
        return waiter

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
                refusal = error
                tried[place] = error.reason
            waited = self._clock.seconds() - began
            other = selection.choose_again(tried)
            if other is None or (patience is not None and waited >= patience):
                raise refusal.having_tried(tried)
            left = None if patience is None else patience - waited
            queue = selection.queue(ident)
            place = queue.place_for(other, tried)
            try:
                manager: Any = self._place(ident, place, queue)
                is_last = IServesGroups.providedBy(manager)  # the queue tries all other backends
                if is_last:
                    asked = self._queue_at(manager, queue, selection, left, owner, tried)
                else:
                    asked = ask(manager, ident, left, owner, selection.fresh)
            except ConnectFailed:
                asked = failed(Waiter)
            finally:
                queue.end_if_empty()

    def _lease_ready(
        self, ident: Hashable, chosen: Backend, queue: GroupQueue, owner: Owner | None
    ) -> Lease[Any] | None:
        """Lease what another backend has idle. Connect to the chosen one all the same, if
        C{GroupQueue.is_to_warm} says so."""
        lease = queue.lease_ready(owner)
        if lease is not None and queue.is_to_warm(chosen):
            with suppress(KolusError):  # the request is served already
                self._group_managers.make(ident, chosen).placements.warm()
        return lease

    def _place(self, ident: Hashable, place: Backend, queue: GroupQueue) -> Any:
        """The manager at which a request is placed.

        @raise ConnectFailed: no manager of C{place} can be made.
        @raise Rejected: no manager takes the request.
        """
        manager = self._managers.provide(ident, place)
        if IServesGroups.providedBy(manager) and not manager.admission.accepts(ident):
            other = queue.place_to_wait()
            if other is not None:
                return self._managers.provide(ident, other)
            its = self._group_managers.of(ident, queue.backends)
            ejected = next((each for each in its if each.serves()), None)
            if ejected is not None:
                return ejected
            manager.admission.refuse(ident)
        return manager
