"""Makes all runs of a state machine with one seed equal: sets keep the order of their elements."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from kolus.connection import Connection
from kolus.manager.backend import records
from kolus.manager.connections import connector
from kolus.watching import Owner, Ownership, owners

__all__ = ["begin_anew", "repeatable"]


@contextmanager
def repeatable() -> Iterator[None]:
    """Only C{begin_anew} and ledgers collect garbage meanwhile, and look only at what is newer."""
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        with (
            patch.object(connector, "Connection", _Connection),
            patch.object(owners, "Ownership", _Ownership),
            patch.object(records, "_MOST_UNUSED", records._MOST_UNUSED),
        ):
            yield
    finally:
        gc.unfreeze()
        gc.enable()


def begin_anew() -> None:
    """A run begins. The order in a set depends on the numbers, so the same run must give the same
    numbers."""
    _Numbers.ahead = itertools.count()
    if next(_Numbers.runs) % 20 == 0:
        gc.collect()


class _Numbers:
    """Consecutive numbers as hashes."""

    ahead = itertools.count()
    runs = itertools.count(1)


class _Connection(Connection[Any]):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._number = next(_Numbers.ahead)

    def __hash__(self) -> int:
        return self._number


class _Ownership(Ownership):
    def __init__(self, owner: Owner, waiting: dict[Ownership, None]) -> None:
        super().__init__(owner, waiting)
        self._number = next(_Numbers.ahead)

    def __hash__(self) -> int:
        return self._number
