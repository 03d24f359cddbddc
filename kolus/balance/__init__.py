"""The balancers, which choose one of several backends, and the queries that they may make.

Each balancer has its own module. A balancer sees the statuses of the backends and nothing else: no
manager and no pool.
"""

from kolus.balance.balancer import Balancer, usable
from kolus.balance.candidates import Rank, another, lighter_of, two_of
from kolus.balance.consistent import Ring, consistent
from kolus.balance.feedback import Feedback
from kolus.balance.lowest import fill_first, idle_first, least_leased
from kolus.balance.names import NAMES
from kolus.balance.peak_ewma import peak_ewma
from kolus.balance.pick_two import draw_of, pick_two
from kolus.balance.prefer_zone import prefer_zone
from kolus.balance.round_robin import round_robin

__all__ = [
    "NAMES",
    "Balancer",
    "Feedback",
    "Rank",
    "Ring",
    "another",
    "consistent",
    "draw_of",
    "fill_first",
    "idle_first",
    "least_leased",
    "lighter_of",
    "peak_ewma",
    "pick_two",
    "prefer_zone",
    "round_robin",
    "two_of",
    "usable",
]
