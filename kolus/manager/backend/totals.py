"""C{Totals}: the total counters of the records that a pool no longer keeps.

Its state is the counters of each forgotten record that still exists, by a weak reference; the
references whose records are gone; and the sum of the counters of the others.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from kolus.status import Counters

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord

__all__ = ["Totals"]


class Totals:
    """Adds up counters. A lease refers to its manager and so to the record, and may still count
    there. So a record's counters are added to the sum only when the record is gone."""

    def __init__(self) -> None:
        self._to_come: dict[weakref.ref[BackendRecord], Counters] = {}
        self._gone: list[weakref.ref[BackendRecord]] = []
        self._sum = Counters()

    def expect(self, record: BackendRecord) -> None:
        """The pool has forgotten a record."""
        self._add_up()
        # The garbage collector calls this at any time, in any thread; to append is safe.
        self._to_come[weakref.ref(record, self._gone.append)] = record.counters

    def counters(self) -> Counters:
        """The total of all forgotten records."""
        self._add_up()
        return sum(self._to_come.values(), self._sum)

    def _add_up(self) -> None:
        while self._gone:
            self._sum += self._to_come.pop(self._gone.pop())
