"""What the demo shows: a table of its backends, and a summary. Lines have at most 79 characters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from kolus.backend import Backend
from kolus.status import GroupStatus, State, Status

__all__ = ["Tally", "summary", "table"]

_COLOURS = {State.OPEN: 32, State.EJECTED: 31, State.DUE: 33}


class Tally:
    """The leases of one backend: all of them, and those since the last table.

    @ivar ejected: how often it was ejected.
    @ivar admitted: how often it was admitted again.
    """

    def __init__(self) -> None:
        self.leases = self.ejected = self.admitted = 0
        self.waits, self.holds = _Times(), _Times()
        self.recent_waits, self.recent_holds = _Times(), _Times()

    def begin(self) -> None:
        """Another table begins."""
        self.recent_waits, self.recent_holds = _Times(), _Times()

    def leased(self, waited: float) -> None:
        self.leases += 1
        self.waits.add(waited)
        self.recent_waits.add(waited)

    def settled(self, held: float) -> None:
        self.holds.add(held)
        self.recent_holds.add(held)


class _Times(Counter[int]):
    """A histogram of times, in steps of 2 %, from one microsecond on."""

    def add(self, seconds: float) -> None:
        self[math.ceil(math.log(max(seconds, 1e-6) * 1e6, 1.02))] += 1

    def quantile(self, share: float) -> str:
        """A quantile as text, in ms; "-" if there are none.

        @param share: from 0 to 1: 0.5 is the median.
        """
        left = share * self.total()
        for step in sorted(self):
            left -= self[step]
            if left <= 0:
                return f"{1.02**step / 1000:.1f}"
        return "-"


def table(
    at: float, seconds: float, status: GroupStatus, tallies: Mapping[Backend, Tally], colour: bool
) -> list[str]:
    """The table of the last seconds, and begin another one.

    @param at: seconds since the demo began.
    @param seconds: since the last table.
    """
    head = f"{at:5.1f} s  {'backend':8}{'state':8}{'idle':>5}{'leased':>7}{'leases/s':>9}"
    lines = [f"{head}{'wait p50':>9}{'p99':>7}{'hold p50':>9}{'p99':>7}"]
    lines += [_row(each, tallies[each.backend], seconds, colour) for each in status.backends]
    return [*lines, f"{'':9}waiting requests: {status.waiting}; wait and hold are in ms"]


def _row(status: Status, tally: Tally, seconds: float, colour: bool) -> str:
    state = f"{status.state.value:8}"
    if colour:
        state = f"\x1b[{_COLOURS.get(status.state, 33)}m{state}\x1b[0m"
    waits, holds = tally.recent_waits, tally.recent_holds
    tally.begin()
    return (
        f"{'':9}{status.backend!s:8}{state}{status.idle or 0:5}{status.leased:7}"
        f"{waits.total() / seconds:9.0f}{waits.quantile(0.5):>9}{waits.quantile(0.99):>7}"
        f"{holds.quantile(0.5):>9}{holds.quantile(0.99):>7}"
    )


def summary(tallies: Mapping[Backend, Tally]) -> list[str]:
    """The whole demo, a row for each backend and one for all."""
    whole = Tally()
    for each in tallies.values():
        whole.leases += each.leases
        whole.ejected += each.ejected
        whole.admitted += each.admitted
        whole.waits.update(each.waits)
        whole.holds.update(each.holds)
    head = f"{'backend':8}{'leases':>8}{'share':>7}{'ejected':>9}{'admitted':>10}"
    return [
        "",
        f"{head}{'wait p50':>10}{'p99':>8}{'hold p50':>10}{'p99':>8}",
        *[_total(str(backend), each, whole.leases) for backend, each in tallies.items()],
        _total("total", whole, whole.leases),
    ]


def _total(name: str, its: Tally, all_leases: int) -> str:
    share = its.leases / all_leases if all_leases else 0.0
    return (
        f"{name:8}{its.leases:8}{share:7.0%}{its.ejected:9}{its.admitted:10}"
        f"{its.waits.quantile(0.5):>10}{its.waits.quantile(0.99):>8}"
        f"{its.holds.quantile(0.5):>10}{its.holds.quantile(0.99):>8}"
    )
