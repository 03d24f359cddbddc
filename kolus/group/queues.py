"""C{Queues}: the queues of the requests for a group, or for all lists of a pool.

Its state is the queues, by their ident, the keys that tell their backends apart, and whether their
requests want fresh connections; and what the queues of a group, or of each list, know of room. A
queue that lasts stays when it is empty, until there are too many of these; the others are closed
then. What those of a list know is forgotten with the last of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from kolus.group.group_managers import GroupManagers
from kolus.group.openings import Openings
from kolus.group.queue import GroupQueue

if TYPE_CHECKING:
    from kolus.backend import Backends
    from kolus.health import Panic
    from kolus.manager import Managers

__all__ = ["Keys", "Queues"]

Keys = frozenset[Hashable]
Key = tuple[Hashable, Keys, bool]
_MOST_EMPTY = 64


class Queues:
    """Makes a queue when it is first needed.

    @ivar managers: the managers that serve them.
    """

    def __init__(self, managers: Managers, clock: IReactorTime) -> None:
        self.managers = managers
        self._clock = clock
        self._group_managers = GroupManagers(managers)
        self._queues: OrderedDict[Key, GroupQueue] = OrderedDict()
        self._openings: dict[Keys, Openings] = {}

    def find(self, ident: Hashable, keys: Keys, fresh: bool) -> GroupQueue | None:
        """The queue of the requests of C{ident} that was made with these."""
        return self._queues.get((ident, keys, fresh))

    def openings(self, keys: Keys, backends: Backends, panic: Callable[[], Panic]) -> Openings:
        """What the queues of a group or a list know of room.

        @param keys: those of the list; none for a group.
        @param panic: gives what tells whether ejected backends may serve.
        """
        known = self._openings.get(keys)
        if known is None:
            known = Openings(backends, panic(), self._group_managers, self._clock)
            self._openings[keys] = known
        return known

    def make(
        self,
        ident: Hashable,
        keys: Keys,
        backends: Backends,
        openings: Openings,
        *,
        lasts: bool,
        fresh: bool,
    ) -> GroupQueue:
        """Make a queue, if there is none.

        @param keys: what tells its backends from those of the other queues.
        @param openings: what all queues for the backends know of room.
        @param lasts: whether it stays when it is empty.
        @param fresh: whether its requests want connections that were never leased.
        """
        key = (ident, keys, fresh)
        emptied = None if lasts else partial(self._drop, key)
        queue = GroupQueue(
            ident, backends, self._group_managers, self._clock, openings, emptied, fresh=fresh
        )
        self._queues[key] = queue
        if lasts:
            self._close_spare()
        return queue

    def _close_spare(self) -> None:
        empty = [key for key, each in self._queues.items() if not each.waiting]
        for each in empty[:-_MOST_EMPTY]:
            self._queues.pop(each).close()

    def _drop(self, key: Key, queue: GroupQueue) -> None:
        if self._queues.get(key) is queue:
            del self._queues[key]
            queue.close()
            openings = self._openings.get(key[1])
            if openings is not None and not openings.queues:
                self._openings.pop(key[1]).close()

    def change(self, backends: Backends, but: Callable[[Keys], Backends]) -> None:
        """The group has other backends. This may call anything.

        @param but: gives those of a queue, from the keys that it was made with.
        """
        for openings in tuple(self._openings.values()):
            openings.change(backends)
        for (_, keys, _), queue in tuple(self._queues.items()):
            if not queue.is_closed:  # a lessee served meanwhile may have closed it
                queue.change(but(keys))
        for openings in tuple(self._openings.values()):
            openings.look_anew(())

    def waiting(self) -> int:
        """The number of requests in all of them."""
        return sum([len(each.waiting) for each in self._queues.values()])

    def oldest_since(self) -> float | None:
        """When the oldest request of all of them arrived, on the clock; C{None}: nobody waits."""
        heads = [each.head() for each in self._queues.values()]
        return min([each.since for each in heads if each is not None], default=None)

    def close(self, error: Exception) -> None:
        """Close them all. Those who wait fail with C{error}."""
        for queue in tuple(self._queues.values()):
            queue.close(error)
        self._queues.clear()
        for openings in self._openings.values():
            openings.close()
        self._openings.clear()
