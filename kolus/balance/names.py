"""The balancers by their names, for command lines and configuration files."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from kolus.balance.lowest import fill_first, idle_first, least_leased
from kolus.balance.peak_ewma import peak_ewma
from kolus.balance.pick_two import pick_two
from kolus.balance.round_robin import round_robin

if TYPE_CHECKING:
    from kolus.balance.balancer import Balancer

__all__ = ["NAMES"]

NAMES: dict[str, Callable[[IReactorTime], Balancer]] = {
    "fill_first": lambda clock: fill_first,
    "idle_first": lambda clock: idle_first,
    "least_leased": lambda clock: least_leased,
    "peak_ewma": lambda clock: peak_ewma(clock),
    "pick_two": lambda clock: pick_two(),
    "round_robin": lambda clock: round_robin(random),
}
"""For each name on a command line: a callable that makes the balancer for a reactor."""
