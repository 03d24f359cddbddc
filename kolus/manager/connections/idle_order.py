"""C{IdleOrder}: the idle connections of one manager, in the order in which they became idle.

Its state is these connections; those of them that were never leased; and how many have left each
of both dicts from amid the others since it was last made anew.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kolus.connection import IDLE

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.policy import Policy

__all__ = ["IdleOrder"]

P = TypeVar("P")
_FEW = 64


class IdleOrder(Generic[P]):
    """Tells which idle connection is next, which is the oldest, and which were never leased.

    @ivar all: the idle connections, live. C{popitem} takes the next one by the policy's C{reuse}.
        The lease path takes from it and adds to it by itself.
    """

    __slots__ = ("_from_next", "_gaps", "_new", "_new_gaps", "all")

    def __init__(self, policy: Policy) -> None:
        self.all: dict[Connection[P], None]
        self._from_next: Callable[[dict[Connection[P], None]], Iterator[Connection[P]]]
        if policy.reuse == "lifo":
            self.all = {} if policy.keepalive is None else OrderedDict()
            self._from_next = reversed
        else:
            self.all = _FirstOut()
            self._from_next = iter
        # The lease path does not look here, so some of these may have been leased since.
        self._new: dict[Connection[P], None] = {}
        self._gaps = self._new_gaps = 0

    def next(self) -> Connection[P]:
        """The next idle connection. It stays idle."""
        return next(self.in_turn())

    def in_turn(self) -> Iterator[Connection[P]]:
        """The idle connections, the next first. The iterator is valid until one comes or goes."""
        return self._from_next(self.all)

    def freshest(self) -> Connection[P]:
        """The connection that became idle last. It stays idle."""
        return next(reversed(self.all))

    def oldest(self) -> Connection[P]:
        """The connection that is idle longest. It stays idle."""
        return next(iter(self.all))

    def oldest_since(self) -> float:
        """Since when that is idle, on the clock; infinity if none is."""
        return self.oldest().since if self.all else math.inf

    def new(self, besides: Container[Connection[P]] = ()) -> Iterator[Connection[P]]:
        """The idle connections that were never leased. As for C{in_turn}.

        @param besides: leave out these.
        """
        gone = []
        try:
            for connection in self._new:
                if connection.uses or connection.state is not IDLE:
                    gone.append(connection)
                elif connection not in besides:
                    yield connection
        finally:
            for each in gone:
                self._new.pop(each, None)
            self._new_gaps += len(gone)
            if _are_too_many(self._new_gaps, self._new):
                self._new_gaps = 0
                self._new = dict.fromkeys(self._new)

    def note_new(self, connection: Connection[P]) -> None:
        """A connection that was never leased is idle."""
        self._new[connection] = None

    def put_back(self, connection: Connection[P]) -> None:
        """Make what C{popitem} took out the next again."""
        self.all[connection] = None
        if isinstance(self.all, _FirstOut):
            self.all.move_to_end(connection, last=False)

    def put_first(self, connection: Connection[P]) -> None:
        """Make an idle connection the oldest again: a keep-alive check had taken it out."""
        assert isinstance(self.all, OrderedDict)
        self.all.move_to_end(connection, last=False)

    def leave(self, connection: Connection[P]) -> None:
        """A connection is not idle any more, if it was; it need not have been the next."""
        if connection in self.all:
            del self.all[connection]
            self._gaps += 1
            if type(self.all) is dict and _are_too_many(self._gaps, self.all):
                self._gaps = 0
                kept = dict.fromkeys(self.all)
                self.all.clear()
                self.all.update(kept)

    def remove(self, connection: Connection[P]) -> None:
        """A connection is gone."""
        self.leave(connection)
        self._new.pop(connection, None)


def _are_too_many(gaps: int, known: dict[Connection[Any], None]) -> bool:
    """Whether a dict is to be made anew. To find the first in it takes a time for each that has
    left before it."""
    return gaps > _FEW + 8 * math.isqrt(len(known))


class _FirstOut(OrderedDict["Connection[Any]", None]):
    """C{popitem} takes the first. In a dict, finding the first gets slow after many removals."""

    def popitem(self, last: bool = False) -> tuple[Connection[Any], None]:
        return super().popitem(last)
