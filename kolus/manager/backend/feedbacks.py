"""C{Feedbacks}: who is told how long the leases of one backend take.

Its state is the feedbacks, by the numbers of their balancers, and how many there may be until those
whose balancer is gone are removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.balance import Feedback
    from kolus.manager.backend.record import BackendRecord

__all__ = ["Feedbacks"]


class Feedbacks:
    """Tells balancers about the leases of one backend.

    @ivar known: the feedbacks. Only this class changes it.
    """

    __slots__ = ("_most", "_record", "known")

    def __init__(self, record: BackendRecord) -> None:
        self._record = record
        self.known: dict[int, Feedback] = {}
        self._most = 1

    def teach(self, feedback: Feedback) -> None:
        """Tell it how long leases take, too."""
        known = self.known.get(feedback.number)
        if known is not None and known.has_same_balancer(feedback):
            return
        if len(self.known) >= self._most:
            for number, each in tuple(self.known.items()):
                if each.is_gone():
                    del self.known[number]
            self._most = max(1, 2 * len(self.known))
        self.known[feedback.number] = feedback
        self._record.changed()  # a manager that is smooth tells nobody

    def unteach(self, feedback: Feedback) -> None:
        """Do not tell it any more."""
        self.known.pop(feedback.number, None)

    def observed(self, seconds: float) -> None:
        """A lease was released, or its lessee has said how long the backend took to answer."""
        for feedback in tuple(self.known.values()):
            feedback.observed(self._record.backend, seconds)
