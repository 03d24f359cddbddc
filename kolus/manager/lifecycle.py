"""C{Lifecycle}: a manager is open or paused, then draining or closing, then closed for ever."""

from __future__ import annotations

import math

from twisted.internet.defer import Deferred, succeed

from kolus.errors import Closed, Draining
from kolus.status import State

__all__ = ["Lifecycle"]


class Lifecycle:
    """The state of a manager, and the Deferreds that fire when it is closed.

    @ivar serves: whether it gives leases now: it is open and not paused.
    @ivar refusal: the error of new requests; C{None} while it is open or paused.
    @ivar abort_at: when connections are aborted, on the clock; infinity if never.
    @ivar closed: whether it is closed.
    """

    def __init__(self) -> None:
        self.serves = True
        self.refusal: type[Draining] | type[Closed] | None = None
        self.abort_at = math.inf
        self.closed = False
        self._told_closed: dict[Deferred[None], None] = {}

    def state(self) -> State:
        if self.refusal is None:
            return State.OPEN if self.serves else State.PAUSED
        return State.CLOSED if self.closed else State.DRAINING

    def pause(self) -> None:
        """Give no leases until C{resume}. Requests wait."""
        self.serves = False

    def resume(self) -> bool:
        """Give leases again, unless it is ending.

        @return: whether this changes anything.
        """
        was, self.serves = self.serves, self.refusal is None
        return self.serves and not was

    def end(self, refusal: type[Draining] | type[Closed]) -> bool:
        """Take no more requests.

        @return: whether this changes anything.
        """
        if self.refusal in (refusal, Closed):
            return False
        self.refusal = refusal
        self.serves = False
        return True

    def abort_by(self, at: float) -> None:
        """Have connections aborted at C{at}, on the clock, unless they are to be earlier."""
        self.abort_at = min(self.abort_at, at)

    def note_closed(self) -> None:
        """No connection is left: fire the Deferreds of C{when_closed}."""
        self.closed = True
        self.refusal = Closed
        told, self._told_closed = self._told_closed, {}
        for each in told:
            each.callback(None)

    def when_closed(self) -> Deferred[None]:
        """See C{IKolusManager.when_closed}."""
        if self.closed:
            return succeed(None)
        told: Deferred[None] = Deferred(lambda told: self._told_closed.pop(told, None))
        self._told_closed[told] = None
        return told
