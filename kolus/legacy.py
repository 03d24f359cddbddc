"""C{Legacy}: what the accounts that a pool forgets leave to it: what they counted, and their place.

Its state is what each will leave as soon as nobody refers to it any more, what the others have
left, and that added up: the counters, and the places that may be taken.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from kolus.counters import Counters

if TYPE_CHECKING:
    from kolus.account import Account

__all__ = ["Legacy"]


class Legacy:
    """Whoever has a lease has its manager, and that its account, and may count there, and add to
    its load. So what an account leaves is not touched before that is gone."""

    def __init__(self) -> None:
        self._to_come: dict[weakref.ref[Account], tuple[Counters, int]] = {}
        self._left: list[tuple[Counters, int]] = []
        self._counters = Counters()
        self._places: list[int] = []

    def expect(self, account: Account) -> None:
        """The pool has forgotten an account."""
        self._to_come[weakref.ref(account, self._is_gone)] = account.counters, account.place

    def counters(self) -> Counters:
        """What was counted at all of them."""
        self._add_up()
        return sum([counters for counters, _ in self._to_come.values()], self._counters)

    def place(self) -> int | None:
        """A place for a new account; C{None} if there is none."""
        self._add_up()
        return self._places.pop() if self._places else None

    def _is_gone(self, account: weakref.ref[Account]) -> None:
        # The garbage collector may call this at any time, and in any thread.
        self._left.append(self._to_come.pop(account))

    def _add_up(self) -> None:
        while self._left:
            counters, place = self._left.pop()
            self._counters += counters
            self._places.append(place)
