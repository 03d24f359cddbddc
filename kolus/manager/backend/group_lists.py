"""C{GroupLists}: the lists of backends that the groups of a pool have now.

Its state is the lists. A name or a limit that several of them give comes from the newest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends

__all__ = ["GroupLists"]


class GroupLists:
    """Knows which backends groups have, and what the groups call them."""

    def __init__(self) -> None:
        self._lists: dict[int, Backends] = {}  # by their identity, the newest last

    def add(self, backends: Backends) -> None:
        self._lists[id(backends)] = backends

    def remove(self, backends: Backends) -> None:
        del self._lists[id(backends)]

    def __contains__(self, key: Hashable) -> bool:
        """Whether a group has the backend with this key."""
        return any(key in each for each in self._lists.values())

    def called(self, backend: Backend) -> Backend:
        """The backend as it is in the newest list that has it; C{backend} if none has."""
        return next(self._named(backend.key), backend)

    def limit(self, backend: Backend) -> int | None:
        """The limit that the newest list gives that gives one, or else the backend's own; C{None}
        if there is none."""
        given = (each.limit for each in self._named(backend.key))
        return next((limit for limit in given if limit is not None), backend.limit)

    def _named(self, key: Hashable) -> Iterator[Backend]:
        return (each[key] for each in reversed(self._lists.values()) if key in each)
