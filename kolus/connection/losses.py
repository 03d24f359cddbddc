"""C{Losses}: tells the lessees of a connection when it ends.

Its state is the pairs of a lease and the Deferred that its lessee was given; how many of these
there may be before those of settled leases are removed; and the reason, once the connection has
ended. References to leases are weak, or a forgotten lease could not be reclaimed.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kolus.errors import reason_of

if TYPE_CHECKING:
    from kolus.lease import Lease

__all__ = ["Losses"]


class Losses:
    """The lessees of one connection that asked to be told of its end."""

    def __init__(self, reason: Failure | None) -> None:
        """
        @param reason: why the connection has ended; C{None} if it has not.
        """
        self._most = 1
        self._asked: list[tuple[weakref.ref[Lease[Any]], Deferred[BaseException]]] = []
        self._reason = None if reason is None else reason_of(reason)

    def tell(self, lease: Lease[Any]) -> Deferred[BaseException]:
        """
        @return: fires with the reason when the connection ends, if C{lease} is still held then.
        """
        told: Deferred[BaseException] = Deferred()
        if self._reason is not None:
            told.callback(self._reason)
            return told
        if len(self._asked) >= self._most:
            # Not at every call: with many leases on one connection that would take O(n) each.
            self._asked = [each for each in self._asked if not each[1].called and _is_held(each[0])]
            self._most = max(1, 2 * len(self._asked))
        self._asked.append((weakref.ref(lease), told))
        return told

    def take(self, lease: Lease[Any]) -> list[Deferred[BaseException]]:
        """Remove and return the Deferreds that the lessee of C{lease} was given."""
        taken = [told for each, told in self._asked if each() is lease]
        self._asked = [each for each in self._asked if each[0]() is not lease]
        return taken

    def happen(self, reason: Failure) -> None:
        """The connection has ended: fire the Deferreds of leases that are still held."""
        self._reason = reason_of(reason)
        asked, self._asked = self._asked, []
        for lease, told in asked:
            if _is_held(lease) and not told.called:
                told.callback(self._reason)


def _is_held(lease: weakref.ref[Lease[Any]]) -> bool:
    held = lease()
    return held is not None and held.held
