"""C{Measures}: observes the pools of a daemon's groups, from the start of the admin server.

Its state is one C{Measured} for each group, made when it is asked for; a group that is replaced
keeps its own, so that counts do not fall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakSet

from kolus.admin.running import Running
from kolus.durations import Durations
from kolus.events import Event
from kolus.metrics import Metrics

__all__ = ["Measured", "Measures"]

_MOST = 10_000
"""Backends that are kept: more than a group lists. The counts of one that is dropped would fall."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was counted of one group.

    @ivar metrics: counts of the group's pool.
    @ivar durations: histograms of the group's pool.
    """

    metrics: Metrics = field(default_factory=partial(Metrics, _MOST))
    durations: Durations = field(default_factory=partial(Durations, _MOST))


class Measures:
    """Adds its observers to each pool of the daemon once."""

    def __init__(self, running: Running, heard: Callable[[str, Event], object]) -> None:
        """
        @param heard: is told of each event, with the name of the group.
        """
        self._running = running
        self._heard = heard
        self._measured: dict[str, Measured] = {}
        self._pools: WeakSet[Any] = WeakSet()

    def of(self, name: str) -> Measured:
        return self._measured.setdefault(name, Measured())

    def look(self) -> None:
        """Observe the pools that came since the last look, and forget groups that are gone."""
        groups = self._running.groups
        for name in [each for each in self._measured if each not in groups]:
            del self._measured[name]
        for name, group in groups.items():
            if group.pool not in self._pools:
                self._pools.add(group.pool)
                measured = self.of(name)
                group.pool.add_observer(measured.metrics)
                group.pool.add_observer(measured.durations)
                group.pool.add_observer(_Named(name, self._heard))


@dataclass(frozen=True, slots=True)
class _Named:
    """An observer that adds the name of the group."""

    name: str
    heard: Callable[[str, Event], object]

    def __call__(self, event: Event) -> None:
        self.heard(self.name, event)
