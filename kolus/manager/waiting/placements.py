"""C{Placements}: what a manager does for the requests that wait in the queues of groups.

Each waiter of a group is placed at one manager, which counts it and connects for it as if it waited
there. The placement does not decide who serves it: all managers of the group serve its waiters by
arrival.

Its state is the waiters placed here, the oldest placement first; the same by their arrival, from
when the backend is not well until it is; those of them for whom a connection may be on its way;
those of them who want one that was never leased; and the queues to tell when something is idle
here, or when there is room. A queue asks to be told when it found nothing here, and is told once.
So each call costs no more than the look before it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from kolus.health import Phase
from kolus.support import LazyHeap

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.base import BaseManager
    from kolus.manager.waiting.group_queues import ServedQueue
    from kolus.manager.waiting.queue import Waiter

__all__ = ["Placements"]

_MOST_TRIED = 8  # of those for whom a connection is on its way, the newest


class Placements:
    """Connects for waiters of groups, and tells their queues when that is impossible or slow.

    @ivar waiters: the waiters placed here. Only this class changes it.
    @ivar fresh: those of them that want connections which were never leased.
    @ivar wait_for_idle: the queues to tell, once, when something is idle here.
    @ivar wait_for_room: the queues to tell, once, when there is room for more requests.
    """

    __slots__ = (
        *("_by_arrival", "_hopeful", "_manager", "_record", "fresh"),
        *("wait_for_idle", "wait_for_room", "waiters"),
    )

    def __init__(self, manager: BaseManager[Any], record: BackendRecord) -> None:
        self._manager = manager
        self._record = record
        self.waiters: dict[Waiter[Any], None] = {}
        self._hopeful: dict[Waiter[Any], None] = {}
        self.fresh: dict[Waiter[Any], None] = {}
        self._by_arrival: tuple[LazyHeap[Waiter[Any]], ...] | None = None
        self.wait_for_idle: dict[ServedQueue, None] = {}
        self.wait_for_room: dict[ServedQueue, None] = {}

    def add(self, waiter: Waiter[Any]) -> None:
        """Place a waiter here: connect for it as soon as that is allowed."""
        manager = self._manager
        waiter.placement = manager
        self.waiters[waiter] = self._hopeful[waiter] = None
        if waiter.fresh:
            self.fresh[waiter] = None
        if self._by_arrival is not None:
            self._by_arrival[waiter.fresh].set(waiter, waiter.order)
        self._record.changed(manager)
        assert waiter.queue is not None
        manager.groups.join(waiter.queue)  # type: ignore[arg-type]
        manager.demand_grew()

    def discard(self, waiter: Waiter[Any]) -> None:
        """Stop connecting for a waiter that has left its queue or is placed elsewhere."""
        if waiter in self.waiters:
            del self.waiters[waiter]
            self._hopeful.pop(waiter, None)
            self.fresh.pop(waiter, None)
            if self._by_arrival is not None:
                self._by_arrival[waiter.fresh].discard(waiter)
            self._record.changed(self._manager)
            self._manager.demand_fell()

    def oldest(self, reused: bool) -> Waiter[Any] | None:
        """The waiter placed here that arrived first.

        @param reused: whether it is to take a connection that was leased before.
        """
        if self._by_arrival is None:
            self._by_arrival = LazyHeap(), LazyHeap()
            for waiter in self.waiters:
                self._by_arrival[waiter.fresh].set(waiter, waiter.order)
        heaps = self._by_arrival[:1] if reused else self._by_arrival
        firsts = [each for each in [heap.first() for heap in heaps] if each is not None]
        return min(firsts, key=lambda waiter: waiter.order, default=None)

    def health_changed(self) -> None:
        """The backend has become well, or is not well any more. While it is well, nobody asks for
        C{oldest}."""
        if self._record.health.phase is Phase.WELL:
            self._by_arrival = None

    def give_up(self, waiter: Waiter[Any], error: Exception) -> None:
        """A waiter cannot be served here. Its queue places it elsewhere, or else fails it."""
        queue: Any = waiter.queue
        self.discard(waiter)
        queue.refused(waiter, error)

    def give_up_all(self, error: Exception) -> None:
        """The manager ends: give up on all waiters, and stop serving queues of groups."""
        for queue in [*self._manager.groups, *self.wait_for_idle]:
            queue.manager_gone(self._manager)
        self._manager.groups.clear()
        self.wait_for_idle.clear()
        self.wait_for_room.clear()
        while self.waiters:
            self.give_up(next(iter(self.waiters)), error)

    # What can be done

    def surplus(self, *, fresh: bool = False) -> int:
        """How many more requests the manager may connect for at once. If it is below 0, so many
        waiters here depend on the release of other leases.

        @param fresh: whether they want connections that were never leased.
        """
        manager, record = self._manager, self._record
        coming = 0
        if manager.serves():
            coming, ready = manager.supply.coming(), manager.supply.ready()
            if coming != ready:
                now = manager._now()
                is_due = record.attempts.due_at <= now and not manager._connector.unpaid
                if not (is_due and now < manager.connections.slow_at()):
                    coming = ready
        if fresh:
            coming += any(True for _ in manager.freshness.new_idle()) - manager.supply.ready()
        return coming - manager.demand()

    def has_surplus(self, *, fresh: bool = False) -> bool:
        """Whether C{surplus} is above 0. Where many wait, that is known at once."""
        manager = self._manager
        if manager._policy.slots is None:
            most = max(self._record.limit, len(manager.connections.all))
            if manager.demand() >= most:
                return False
        return self.surplus(fresh=fresh) > 0

    def has_lease_out(self) -> bool:
        """Whether there is a lease that may serve others when it is settled."""
        return self._manager.serves() and self._manager.connections.leased() > 0

    def is_connecting(self) -> bool:
        """Whether an attempt is under way, or begins as soon as a connection has closed."""
        manager, connections = self._manager, self._manager.connections
        if not manager.serves():
            return False
        frees = connections.closing and self._record.unused() <= 0
        return bool(connections.connecting or (frees and manager._connector.due_in() <= 0))

    def is_ejected(self) -> bool:
        return self._record.health.phase is Phase.EJECTED

    def warm(self) -> None:
        """Make one connection that no waiter needs, if that may be done at once."""
        manager, record = self._manager, self._record
        quick = not (manager.connections.connecting or manager._idle)
        is_due = manager._connector.due_in() <= 0
        if quick and is_due and manager.serves() and record.may_connect():
            manager._connector.connect()
            manager.connections_changed()

    def reconnect(self) -> None:
        """Make one connection that nobody waits for, as soon as an attempt is due, if connecting
        fails."""
        self._manager._dispatcher.is_to_try = True
        self._manager._dispatcher.decide()

    # Telling the queues

    def tell(self) -> None:
        """Something has changed here: tell the queues that asked to be told."""
        manager = self._manager
        if self.wait_for_idle and manager.has_idle():
            self.tell_idle()
        if self._hopeful:
            self._tell_in_vain()
        if self.wait_for_room:
            self.tell_room()

    def tell_idle(self) -> None:
        """Something is idle here: tell the queues that asked to be told."""
        queues, self.wait_for_idle = self.wait_for_idle, {}
        for queue in queues:
            queue.is_idle_at(self._manager)

    def await_idle(self, queue: ServedQueue) -> None:
        """Tell a queue when something is idle here."""
        self.wait_for_idle[queue] = None
        self._manager.smooth = self._manager.passes_on = False

    def await_room(self, queue: ServedQueue) -> None:
        """Tell a queue when there is room here."""
        self.wait_for_room[queue] = None
        self._manager.passes_on = False
        self._record.turns.await_room(self._manager, queue)

    def tell_room(self) -> None:
        """Tell the queues that asked, one after the other, while there is room."""
        for _ in range(len(self.wait_for_room)):
            queue = next(iter(self.wait_for_room), None)
            if queue is None or not self.has_surplus():
                return
            del self.wait_for_room[queue]
            queue.has_room_at(self._manager)

    def forget(self, queue: ServedQueue) -> None:
        """Stop serving a queue."""
        self._manager.groups.leave(queue)
        self.wait_for_idle.pop(queue, None)
        self.wait_for_room.pop(queue, None)

    def _tell_in_vain(self) -> None:
        """Have waiters placed elsewhere for whom no connection is being made, newest first."""
        if self.is_ejected():
            for waiter in tuple(self._hopeful):
                queue: Any = waiter.queue
                if queue is not None and not queue.may_serve(self._manager.backend):
                    self._relieve(waiter)
        in_vain = len(self.waiters) - len(self._hopeful)
        surplus = self.surplus()
        while self._hopeful and -surplus > in_vain:
            self._relieve(next(reversed(self._hopeful)))
            in_vain = len(self.waiters) - len(self._hopeful)
            surplus = self.surplus()
        if in_vain and surplus < 0:
            self._relieve_others()
        if not self._hopeful:
            return
        slow_at = self._manager.connections.slow_at()
        if slow_at > self._manager._now() and self._manager.serves():
            self._manager._alarm.set(slow_at)

    def _relieve_others(self) -> None:
        """Some waiters here have no chance, and no other place. Others, whose queues know another
        place, can make room for them."""
        seen = set()
        for waiter in tuple(islice(reversed(self._hopeful), _MOST_TRIED)):
            queue: Any = waiter.queue
            if queue is not None and queue not in seen and not queue.is_short():
                seen.add(queue)
                self._relieve(waiter)

    def _relieve(self, waiter: Waiter[Any]) -> None:
        self._hopeful.pop(waiter, None)
        queue: Any = waiter.queue
        if queue is not None:
            queue.relieve(waiter)
