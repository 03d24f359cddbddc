"""C{Queues}: the queues of the requests for a group, or for all lists of a pool.

Its state is the queues, by their ident, the keys that tell their backends apart, and whether their
requests want fresh connections. A queue that lasts stays when it is empty, until there are too many
of these; the others are closed then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from kolus.group.queue import GroupQueue
from kolus.group.servers import Servers

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
        self._servers = Servers(managers)
        self._queues: OrderedDict[Key, GroupQueue] = OrderedDict()

    def find(self, ident: Hashable, keys: Keys, fresh: bool) -> GroupQueue | None:
        """The queue of the requests of C{ident} that was made with these."""
        return self._queues.get((ident, keys, fresh))

    def make(
        self,
        ident: Hashable,
        keys: Keys,
        backends: Backends,
        panic: Panic,
        *,
        lasts: bool,
        fresh: bool,
    ) -> GroupQueue:
        """Make a queue, if there is none.

        @param keys: what tells its backends from those of the other queues.
        @param panic: whether ejected backends may serve.
        @param lasts: whether it stays when it is empty.
        @param fresh: whether its requests want connections that were never leased.
        """
        key = (ident, keys, fresh)
        emptied = None if lasts else partial(self._drop, key)
        queue = GroupQueue(ident, backends, self._servers, self._clock, panic, emptied, fresh=fresh)
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

    def items(self) -> list[tuple[Keys, GroupQueue]]:
        """The open queues, each with the keys that it was made with."""
        return [(key[1], each) for key, each in self._queues.items()]

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
