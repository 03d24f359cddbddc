"""C{Subscriptions}: who is told what changes at which backends of a pool.

Its state is the watchers, who hear of load and health, and the feedbacks, who hear of leases, each
with the backends that it observes. They are attached to existing records and to those made later.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.balance import Feedback
    from kolus.manager.backend.record import BackendRecord, Watcher

__all__ = ["Keyed", "Subscriptions"]

Keyed = Mapping[Hashable, object]
"""A mapping whose keys are keys of backends. Only its keys matter."""


class Subscriptions:
    """Attaches watchers and feedbacks to the records of the backends that they observe."""

    def __init__(self, among: Callable[[Keyed], Iterable[BackendRecord]]) -> None:
        """
        @param among: finds the existing records of the backends with these keys.
        """
        self._among = among
        self._watchers: list[tuple[Watcher, Keyed]] = []
        self._feedbacks: list[tuple[Feedback, Keyed]] = []

    def attach(self, record: BackendRecord) -> None:
        """A record was made: tell those who observe its backend."""
        key = record.backend.key
        record.watchers += [each for each, keyed in self._watchers if key in keyed]
        for feedback, keyed in self._feedbacks:
            if key in keyed:
                record.feedbacks.teach(feedback)
        record.changed()

    def watch(self, watcher: Watcher, keyed: Keyed) -> None:
        """Tell a watcher when load or health of these backends change."""
        self._watchers.append((watcher, keyed))
        for record in self._among(keyed):
            record.changed()  # a manager that is smooth tells no watcher
            record.watchers.append(watcher)

    def unwatch(self, watcher: Watcher, keyed: Keyed) -> None:
        """Stop telling a watcher about these backends."""
        if (watcher, keyed) in self._watchers:
            self._watchers.remove((watcher, keyed))
            for record in self._among(keyed):
                record.watchers.remove(watcher)

    def teach(self, feedback: Feedback, keyed: Keyed) -> None:
        """Tell a feedback of the leases of these backends."""
        self._feedbacks.append((feedback, keyed))
        for record in self._among(keyed):
            record.feedbacks.teach(feedback)

    def unteach(self, feedback: Feedback, keyed: Keyed) -> None:
        """Stop telling a feedback of these leases, except of backends that another list has."""
        if (feedback, keyed) in self._feedbacks:
            self._feedbacks.remove((feedback, keyed))
            others = [keyed for each, keyed in self._feedbacks if each.number == feedback.number]
            for record in self._among(keyed):
                if not any(record.backend.key in each for each in others):
                    record.feedbacks.unteach(feedback)

    def tell_watchers(self, backend: Backend | None) -> None:
        """Tell watchers that a backend has changed; C{None}: all backends."""
        for watcher, keyed in self._watchers:
            for key in keyed if backend is None else {backend.key} & keyed.keys():
                watcher(key)
