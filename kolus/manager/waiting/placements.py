"""C{Placements}: what a manager does for the requests that wait in the queues of groups.

Each waiter of a group is placed at one manager, which counts it and connects for it as if it waited
there. The placement does not decide who serves it: all managers of the group serve its waiters by
arrival.

Its state is the waiters placed here, the oldest placement first; the same by their arrival, once
somebody has asked for that, until the backend becomes well; those of them for whom a connection may
be on its way; those of them who want one that was never leased; and the queues to tell when
something is idle here, or when there is room. A queue asks to be told when it found nothing here,
and is told once. So each call costs no more than the look before it.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from kolus.health import Phase
from kolus.support import LazyHeap

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager
    from kolus.manager.waiting.queue import Waiter
    from kolus.manager.waiting.served_queues import PlacingQueue

__all__ = ["Placements"]

_MOST_TRIED = 8  # of those for whom a connection is on its way, the newest


class Placements:
    """Connects for waiters of groups, and tells their queues when that is impossible or slow.

    @ivar waiters: the waiters placed here. Only this class changes it.
    @ivar fresh: those of them that want connections which were never leased.
    @ivar wait_for_idle: the queues to tell, once, when something is idle here.
    @ivar wait_for_new: those to tell when something is that was never leased.
    @ivar wait_for_room: the queues to tell, once, when there is room for more requests.
    """

    __slots__ = (
        *("_by_arrival", "_expecting", "_expecting_fresh", "_manager", "_record", "fresh"),
        *("wait_for_idle", "wait_for_new", "wait_for_room", "waiters"),
    )

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._record = manager.record
        self.waiters: dict[Waiter[Any], None] = {}
        self._expecting: dict[Waiter[Any], None] = {}
        self._expecting_fresh: dict[Waiter[Any], None] = {}
        self.fresh: dict[Waiter[Any], None] = {}
        self._by_arrival: tuple[LazyHeap[Waiter[Any]], ...] | None = None
        self.wait_for_idle: dict[PlacingQueue, None] = {}
        self.wait_for_new: dict[PlacingQueue, None] = {}
        self.wait_for_room: dict[PlacingQueue, None] = {}

    def add(self, waiter: Waiter[Any]) -> None:
        """Place a waiter here: connect for it as soon as that is allowed."""
        manager = self._manager
        waiter.placement = manager
        self.waiters[waiter] = self._expecting[waiter] = None
        if waiter.fresh:
            self.fresh[waiter] = self._expecting_fresh[waiter] = None
        if self._by_arrival is not None:
            self._by_arrival[waiter.fresh].set(waiter, waiter.order)
        self._record.changed(manager)
        assert waiter.queue is not None
        manager.groups.join(waiter.queue)  # type: ignore[arg-type]
        manager.demand_grew()

    def discard(self, waiter: Waiter[Any]) -> None:
        """Stop connecting for a waiter that has left its queue or is placed elsewhere."""
        if waiter in self.waiters:
            self.remove(waiter)
            self._manager.demand_fell()

    def remove(self, waiter: Waiter[Any]) -> None:
        """The same, for a waiter that is here and is about to be placed elsewhere. After that the
        manager's C{demand_fell} is due."""
        del self.waiters[waiter]
        self._expecting.pop(waiter, None)
        self._expecting_fresh.pop(waiter, None)
        self.fresh.pop(waiter, None)
        if self._by_arrival is not None:
            self._by_arrival[waiter.fresh].discard(waiter)
        self._record.changed(self._manager)

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

    def first_order(self) -> float:
        """The number of that waiter, whichever connection it takes; infinity if there is none."""
        oldest = self.oldest(reused=False) if self.waiters else None
        return math.inf if oldest is None else oldest.order

    def health_changed(self) -> None:
        """The backend has become well, or is not well any more. While it is well, only the limit
        of a pool makes somebody ask for C{oldest}."""
        if self._record.health.phase is Phase.WELL:
            self._by_arrival = None

    def give_up(self, waiter: Waiter[Any], error: Exception) -> None:
        """A waiter cannot be served here. Its queue places it elsewhere, or else fails it."""
        queue: Any = waiter.queue
        if waiter in self.waiters:  # else it is about to be placed elsewhere
            queue.unplaced(waiter)  # else who is told that its place is free would place it, too
            self.discard(waiter)
            queue.place_elsewhere(waiter, error)

    def give_up_all(self, error: Exception) -> None:
        """The manager ends: give up on all waiters, and stop serving queues of groups."""
        for queue in [*self._manager.groups, *self.wait_for_idle, *self.wait_for_new]:
            queue.manager_gone(self._manager)
        self._manager.groups.clear()
        self.wait_for_idle.clear()
        self.wait_for_new.clear()
        self.wait_for_room.clear()
        while self.waiters:
            self.give_up(next(iter(self.waiters)), error)

    # What can be done

    def has_idle(self, *, fresh: bool = False) -> bool:
        """Whether something may be ready to be leased.

        @param fresh: whether it is to be what was never leased.
        """
        manager = self._manager
        if not fresh:
            return manager.has_idle()
        return manager.serves() and next(manager.freshness.new_idle(), None) is not None

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
                now = manager.now()
                is_due = record.attempts.due_at <= now and not manager.connector.held_back
                if not (is_due and now < manager.supply.slow_at()):
                    coming = ready
        if fresh:
            coming += any(True for _ in manager.freshness.new_idle()) - manager.supply.ready()
        return coming - manager.demand()

    def has_surplus(self, *, fresh: bool = False) -> bool:
        """Whether C{surplus} is above 0. Where many wait, that is known at once."""
        manager = self._manager
        if manager.policy.slots is None:
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
        frees = connections.closing and self._record.room.unused() <= 0
        return bool(connections.connecting or (frees and manager.connector.due_in() <= 0))

    def barred(self, queue: Any) -> list[Waiter[Any]]:
        """The waiters of a queue that are placed here, though the health of the backend does not
        let it serve them, without its probe. The newest placement is first."""
        backend, phase = self._manager.backend, self._record.health.phase
        if phase is Phase.WELL or queue.may_serve(backend):
            return []
        placed = [each for each in reversed(self.waiters) if each.queue is queue]
        return [each for each in placed if phase is not Phase.PROBED or each.probes != backend]

    def warm(self) -> None:
        """Make one connection that no waiter needs, if that may be done at once."""
        manager, record = self._manager, self._record
        quick = not (manager.connections.connecting or manager.connections.idle)
        is_due = manager.connector.due_in() <= 0
        if quick and is_due and manager.serves() and record.room.may_connect():
            manager.connector.connect()
            manager.connections_changed()

    def reconnect(self) -> None:
        """Make one connection that nobody waits for, as soon as an attempt is due, if connecting
        fails."""
        self._manager.dispatcher.is_to_try = True
        self._manager.dispatcher.decide()

    # Telling the queues

    def tell(self) -> None:
        """Something has changed here: tell the queues that asked to be told."""
        manager = self._manager
        if self.wait_for_idle and manager.has_idle():
            self.tell_idle()
        if self.wait_for_new and self.has_idle(fresh=True):
            queues, self.wait_for_new = self.wait_for_new, {}
            for queue in queues:
                queue.is_idle_at(manager)
        if self._expecting:
            self._tell_in_vain()
        if self.wait_for_room:
            self.tell_room()

    def tell_idle(self) -> None:
        """Something is idle here: tell the queues that asked to be told."""
        queues, self.wait_for_idle = self.wait_for_idle, {}
        for queue in queues:
            queue.is_idle_at(self._manager)

    def await_idle(self, queue: PlacingQueue) -> None:
        """Tell a queue when something of its kind is idle here."""
        if queue.fresh:  # no release makes what was never leased
            self.wait_for_new[queue] = None
            return
        self.wait_for_idle[queue] = None
        self._manager.smooth = self._manager.passes_on = False

    def await_room(self, queue: PlacingQueue) -> None:
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

    def forget(self, queue: PlacingQueue) -> None:
        """Stop serving a queue."""
        self._manager.groups.leave(queue)
        self.wait_for_idle.pop(queue, None)
        self.wait_for_new.pop(queue, None)
        self.wait_for_room.pop(queue, None)

    def _tell_in_vain(self) -> None:
        """Have waiters placed elsewhere for whom no connection is being made, newest first."""
        if self._record.health.phase in (Phase.EJECTED, Phase.DUE):
            for waiter in tuple(self._expecting):
                queue: Any = waiter.queue
                if queue is not None and not queue.may_serve(self._manager.backend):
                    self._relieve(waiter)
        self._relieve_newest(self.waiters, self._expecting)
        if self._expecting_fresh:
            self._relieve_newest(self.fresh, self._expecting_fresh, fresh=True)
        if len(self.waiters) > len(self._expecting) and self.surplus() < 0:
            self._relieve_others()
        if not self._expecting:
            return
        slow_at = self._manager.supply.slow_at()
        if slow_at > self._manager.now() and self._manager.serves():
            self._manager.alarm.set(slow_at)

    def _relieve_newest(
        self,
        placed: dict[Waiter[Any], None],
        expecting: dict[Waiter[Any], None],
        *,
        fresh: bool = False,
    ) -> None:
        while expecting and -self.surplus(fresh=fresh) > len(placed) - len(expecting):
            self._relieve(next(reversed(expecting)))

    def _relieve_others(self) -> None:
        """Some waiters here have no chance, and no other place. Others, whose queues know another
        place, can make room for them."""
        seen = set()
        for waiter in tuple(islice(reversed(self._expecting), _MOST_TRIED)):
            queue: Any = waiter.queue
            if queue is not None and queue not in seen and not queue.is_short():
                seen.add(queue)
                self._relieve(waiter)

    def _relieve(self, waiter: Waiter[Any]) -> None:
        self._expecting.pop(waiter, None)
        self._expecting_fresh.pop(waiter, None)
        queue: Any = waiter.queue
        if queue is not None:
            queue.relieve(waiter)
