"""C{GroupQueueIndex}: finds the queues of a pool's groups and lists for its managers.

Its state is the queues by ident, what the queues of each group or list know of room, the managers
by ident, and the owners of the waiters.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from kolus.interfaces import IServesGroups
from kolus.watching import Owner, Owners

if TYPE_CHECKING:
    from kolus.manager.waiting.queue import Waiter

__all__ = ["GroupQueueIndex"]


class GroupQueueIndex:
    """Knows all queues, and tells them which managers come and go.

    @ivar openings: what the queues of each group or list know of room; a live dictionary.
    @ivar owners: the owners of waiters in these queues.
    """

    def __init__(self) -> None:
        self._queues: dict[Hashable, dict[Any, None]] = {}
        self._managers: dict[Hashable, dict[Any, None]] = {}
        self.openings: dict[Any, None] = {}
        self.owners = Owners()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def of(self, manager: Any) -> list[Any]:
        """The queues that a manager may serve."""
        queues = self._queues.get(manager.ident, ())
        return [each for each in queues if manager.backend.key in each.backends]

    def add(self, queue: Any) -> None:
        """Add a new queue."""
        self._queues.setdefault(queue.ident, {})[queue] = None

    def remove(self, queue: Any) -> None:
        """Remove a queue that is closed."""
        queues = self._queues.get(queue.ident, {})
        queues.pop(queue, None)
        if not queues:
            self._queues.pop(queue.ident, None)

    # Managers

    def managers_of(self, ident: Hashable) -> list[Any]:
        """The managers for C{ident} that can serve queues, those that end included."""
        return list(self._managers.get(ident, ()))

    def manager_made(self, manager: Any) -> None:
        """Tell the queues that a new manager may serve of it."""
        if _serves_groups(manager):
            self._managers.setdefault(manager.ident, {})[manager] = None
            for queue in self.of(manager):
                queue.manager_made(manager)

    def manager_gone(self, manager: Any) -> None:
        """Tell the queues that a manager is closed."""
        if _serves_groups(manager):
            its = self._managers.get(manager.ident, {})
            its.pop(manager, None)
            if not its:
                self._managers.pop(manager.ident, None)
            for queue in self.of(manager):
                queue.manager_gone(manager)

    # Owners

    def waiters_of(self, owner: Owner) -> Iterable[Waiter[Any]]:
        """The waiters of an owner in these queues."""
        ownership = self.owners.find(owner)
        return () if ownership is None else tuple(ownership.waiters)  # type: ignore[arg-type]


def _serves_groups(manager: Any) -> bool:
    return bool(IServesGroups.providedBy(manager))
