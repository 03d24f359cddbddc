"""C{Losses}: who among the lessees of a connection wants to hear of its end.

Its state is the Deferreds of those who asked, each with its lease. The leases are not kept alive
by it, or one that was forgotten would never be reclaimed.
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
    """Tells the holders of leases that their connection has ended."""

    def __init__(self, reason: Failure | None) -> None:
        """
        @param reason: why it has ended, if it has already.
        """
        self._asked: list[tuple[weakref.ref[Lease[Any]], Deferred[BaseException]]] = []
        self._reason = None if reason is None else reason_of(reason)

    def tell(self, lease: Lease[Any]) -> Deferred[BaseException]:
        """
        @return: fires with why the connection ended, if it does while C{lease} is held.
        """
        told: Deferred[BaseException] = Deferred()
        if self._reason is not None:
            told.callback(self._reason)
            return told
        self._asked = [each for each in self._asked if not each[1].called and _is_held(each[0])]
        self._asked.append((weakref.ref(lease), told))
        return told

    def happen(self, reason: Failure) -> None:
        """The connection has ended."""
        self._reason = reason_of(reason)
        asked, self._asked = self._asked, []
        for lease, told in asked:
            if _is_held(lease) and not told.called:
                told.callback(self._reason)


def _is_held(lease: weakref.ref[Lease[Any]]) -> bool:
    held = lease()
    return held is not None and held.held
