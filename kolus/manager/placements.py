"""C{Placements}: what a manager does for the requests that wait in the queues of groups.

Each waiter of a group is placed at one manager, which counts it and connects for it as if it
waited there. Where a waiter is placed decides nothing about who serves it: any manager of its group
serves the waiters by arrival.

The state is the waiters that are placed here, the oldest placement first, those of them for which a
connection may be on its way, and the queues that want to hear when something is idle here or when
there is room. A queue asks for that when it has looked here in vain, and is told once: so each time
it is told is paid for by a look, and what nobody asks for costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolus.health import Phase
from kolus.manager.group_queues import ServedQueue
from kolus.manager.queue import Waiter

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager
    from kolus.manager.record import BackendRecord

__all__ = ["Placements"]


class Placements:
    """Connects for waiters of groups, and tells their queues what is in vain here.

    @ivar waiters: who is placed here. Read it; it is changed here alone.
    @ivar wait_for_idle: the queues that want to hear, once, when something is idle here.
    @ivar wait_for_room: the queues that want to hear, once, when there is room for more requests.
    """

    __slots__ = (
        *("_hopeful", "_manager", "_record"),
        *("wait_for_idle", "wait_for_room", "waiters"),
    )

    def __init__(self, manager: BaseManager[Any], record: BackendRecord) -> None:
        self._manager = manager
        self._record = record
        self.waiters: dict[Waiter[Any], None] = {}
        self._hopeful: dict[Waiter[Any], None] = {}
        self.wait_for_idle: dict[ServedQueue, None] = {}
        self.wait_for_room: dict[ServedQueue, None] = {}

    def add(self, waiter: Waiter[Any]) -> None:
        """Connect for a waiter, as soon as that may be."""
        manager = self._manager
        waiter.placement = manager
        self.waiters[waiter] = self._hopeful[waiter] = None
        self._record.changed()
        self._record.turns.placing[manager] = None
        assert waiter.queue is not None
        manager.groups.join(waiter.queue)  # type: ignore[arg-type]
        manager.demand_grew()

    def discard(self, waiter: Waiter[Any]) -> None:
        """Connect for a waiter no more: it has left its queue, or is placed elsewhere."""
        if waiter in self.waiters:
            del self.waiters[waiter]
            self._hopeful.pop(waiter, None)
            self._record.changed()
            self._manager.demand_fell()

    def oldest(self) -> Waiter[Any] | None:
        """Who came first of those that are placed here."""
        return min(self.waiters, key=lambda waiter: waiter.order, default=None)

    def give_up(self, waiter: Waiter[Any], error: Exception) -> None:
        """Nothing can serve a waiter here: let its queue place it elsewhere, or fail it."""
        queue: Any = waiter.queue
        self.discard(waiter)
        queue.refused(waiter, error)

    def give_up_all(self, error: Exception) -> None:
        """The manager ends: give up on all, and serve no queue of a group any more."""
        for queue in [*self._manager.groups, *self.wait_for_idle]:
            queue.manager_gone(self._manager)
        self._manager.groups.clear()
        self.wait_for_idle.clear()
        self.wait_for_room.clear()
        while self.waiters:
            self.give_up(next(iter(self.waiters)), error)

    # What can be done

    def surplus(self) -> int:
        """For how many requests more it may connect at once; below 0: how many wait here for the
        leases of others to be settled."""
        manager, record = self._manager, self._record
        coming = 0
        if manager.serves():
            now = manager._now()
            is_due = record.attempts.due_at <= now and not manager._connector.unpaid
            is_quick = now < manager.connections.slow_at()
            coming = manager._coming() if is_due and is_quick else manager.ready()
        return coming - manager.demand()

    def may_come_home(self) -> bool:
        """Whether a lease is out that may serve others when it is settled."""
        return self._manager.serves() and self._manager.connections.leased() > 0

    def is_connecting(self) -> bool:
        """Whether an attempt is under way, or begins as soon as a slot is free that is being
        freed."""
        manager, connections = self._manager, self._manager.connections
        if not manager.serves():
            return False
        frees = connections.closing and self._record.unused() <= 0
        return bool(connections.connecting or (frees and manager._connector.due_in() <= 0))

    def is_ejected(self) -> bool:
        return self._record.health.phase is Phase.EJECTED

    def warm(self) -> None:
        """Connect once more than is asked for, as far as that may be done at once."""
        manager, record = self._manager, self._record
        quick = not (manager.connections.connecting or manager._idle)
        is_due = manager._connector.due_in() <= 0
        if quick and is_due and manager.serves() and record.may_connect():
            manager._connector.connect()
            manager.connections_changed()

    # What the queues are told

    def tell(self) -> None:
        """Something has changed here: tell the queues that wait to hear of it."""
        manager = self._manager
        if self.wait_for_idle and manager.has_idle():
            self.tell_idle()
        if self._hopeful:
            self._tell_in_vain()
        if self.wait_for_room:
            self.tell_room()

    def tell_idle(self) -> None:
        """Something is idle here: tell those who want to hear of it."""
        queues, self.wait_for_idle = self.wait_for_idle, {}
        for queue in queues:
            queue.is_idle_at(self._manager)

    def await_idle(self, queue: ServedQueue) -> None:
        """Nothing is idle here now: tell a queue when something is."""
        self.wait_for_idle[queue] = None
        self._manager.smooth = self._manager.passes_on = False

    def await_room(self, queue: ServedQueue) -> None:
        """There is no room here now: tell a queue when there is."""
        self.wait_for_room[queue] = None
        self._manager.passes_on = False
        self._record.turns.awaited[self._manager] = None

    def tell_room(self) -> None:
        """Tell those who want to hear of room, one after the other, for as long as there is any."""
        for _ in range(len(self.wait_for_room)):
            queue = next(iter(self.wait_for_room), None)
            if queue is None or self.surplus() <= 0:
                return
            del self.wait_for_room[queue]
            queue.has_room_at(self._manager)

    def forget(self, queue: ServedQueue) -> None:
        """A queue is not served here any more."""
        self._manager.groups.leave(queue)
        self.wait_for_idle.pop(queue, None)
        self.wait_for_room.pop(queue, None)

    def _tell_in_vain(self) -> None:
        """Let those be placed elsewhere for whom no connection is on its way, the newest first."""
        if self.is_ejected():
            for waiter in tuple(self._hopeful):
                queue: Any = waiter.queue
                if queue is not None and not queue.may_serve(self._manager.backend):
                    self._relieve(waiter)
        in_vain = len(self.waiters) - len(self._hopeful)
        while self._hopeful and -self.surplus() > in_vain:
            self._relieve(next(reversed(self._hopeful)))
            in_vain = len(self.waiters) - len(self._hopeful)
        if not self._hopeful:
            self._record.turns.placing.pop(self._manager, None)
            return
        slow_at = self._manager.connections.slow_at()
        if slow_at > self._manager._now() and self._manager.serves():
            self._manager._alarm.set(slow_at)

    def _relieve(self, waiter: Waiter[Any]) -> None:
        self._hopeful.pop(waiter, None)
        queue: Any = waiter.queue
        if queue is not None:
            queue.relieve(waiter)
