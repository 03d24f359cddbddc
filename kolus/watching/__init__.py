"""What an operator or a debugger sees of a pool: explanations, owners, guards, recorded events.

This package knows leases, statuses, events and errors. It knows the managers only as the callers
that report to it.
"""

from kolus.watching.explanation import (
    LeaseExplanation,
    ManagerExplanation,
    PoolExplanation,
    WaiterExplanation,
    label,
    why_waiting,
)
from kolus.watching.guards import Forked, Traced, unguarded
from kolus.watching.owners import Owner, Owners, Ownership, check_owner
from kolus.watching.recorder import Recorder

__all__ = [
    "Forked",
    "LeaseExplanation",
    "ManagerExplanation",
    "Owner",
    "Owners",
    "Ownership",
    "PoolExplanation",
    "Recorder",
    "Traced",
    "WaiterExplanation",
    "check_owner",
    "label",
    "unguarded",
    "why_waiting",
]
