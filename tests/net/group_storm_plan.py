"""The plan of the group storm: its length, its callers, and the pool's policy."""

from __future__ import annotations

from dataclasses import dataclass

from kolus import Ejection, Policy
from kolus.backoff import Backoff

__all__ = ["DEADLINE", "Plan"]

DEADLINE = 10.0
"""Seconds that a caller waits for a lease: many times what a busy machine needs for all callers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how many, and which chance."""

    seconds: float = 60.0
    callers: int = 100
    limit: int = 10
    seed: int = 1

    def policy(self) -> Policy:
        """Times so short that all of them pass in a storm."""
        return Policy(
            limit=self.limit,
            acquire_timeout=DEADLINE,
            connect_timeout=0.5,
            idle_timeout=2.0,
            close_timeout=0.5,
            max_waiters=1000,
            backoff=Backoff(first=0.02, most=0.3),
            ejection=Ejection(failures=5, first=0.5, most=2.0),
        )
