"""C{Decisions}: whom else a manager could serve when it gave a lease.

The caller is told of the lease later. A trap between the two may let the manager serve others, such
as those of a group that the backend has just joined. They may have asked earlier, but nobody has
overtaken them. So what was true is noted before each trap.

Its state is these notes, by the protocol of a lease and the number of its uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.rigs.pending import Request, may_serve

__all__ = ["Decisions"]

Manager = Any


class Decisions:
    """Notes it for the leases that are out when a trap springs."""

    def __init__(self) -> None:
        self._noted: dict[tuple[Any, int], list[Request]] = {}

    def note(self, managers: Sequence[Manager], waiting: Sequence[Request]) -> None:
        """Note it for the leases that were given since the last trap.

        @param waiting: the requests whose callers wait.
        """
        before, self._noted = self._noted, {}
        for manager in managers:
            could = [each for each in waiting if may_serve(manager, each, reused=False)]
            for leasable in manager.supply.held():
                key = leasable.protocol, leasable.uses
                self._noted[key] = before.get(key, could)

    def passed(self, leasable: Any, ahead: Sequence[Request], *, reused: bool) -> list[Request]:
        """Those who were overtaken by the lessee.

        @param ahead: who waited when the lessee asked.
        @param reused: whether the connection was leased before.
        """
        passed = [each for each in ahead if may_serve(leasable.manager, each, reused=reused)]
        could = self._noted.get((leasable.protocol, leasable.uses), passed)
        return [each for each in passed if each in could]
