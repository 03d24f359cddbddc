"""C{Totals}: what the records that a pool forgets leave to it: what they counted.

Its state is what each will leave as soon as nobody refers to it any more, who is gone by now, and
what others have left, added up.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from kolus.status import Counters

if TYPE_CHECKING:
    from kolus.manager.record import BackendRecord

__all__ = ["Totals"]


class Totals:
    """Whoever has a lease has its manager, and that its record, and may count there. So what an
    record leaves is not added up before that is gone."""

    def __init__(self) -> None:
        self._to_come: dict[weakref.ref[BackendRecord], Counters] = {}
        self._gone: list[weakref.ref[BackendRecord]] = []
        self._sum = Counters()

    def expect(self, record: BackendRecord) -> None:
        """The pool has forgotten a record."""
        self._add_up()
        # The garbage collector may call back at any time, and in any thread.
        self._to_come[weakref.ref(record, self._gone.append)] = record.counters

    def counters(self) -> Counters:
        """What was counted at all of them."""
        self._add_up()
        return sum(self._to_come.values(), self._sum)

    def _add_up(self) -> None:
        while self._gone:
            self._sum += self._to_come.pop(self._gone.pop())
