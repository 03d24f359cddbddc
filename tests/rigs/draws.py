"""The values that the state machines draw from."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from kolus import Ejection
from kolus.backoff import Backoff
from kolus.events import Event, Settled

__all__ = [
    "COUNTS",
    "FRESH",
    "HOOKS",
    "POOL_LIMITS",
    "REACTIONS",
    "SECONDS",
    "SETTINGS",
    "SETTLINGS",
    "SIDES",
    "THEN",
    "TIMEOUTS",
    "TIMES",
    "TRIGGERS",
    "WARMED",
    "WHICH",
    "agreeing",
]

EJECTIONS = [
    Ejection(failures=2, first=1.0, most=4.0),
    Ejection(failures=1, first=3.0, most=3.0, slow_start=2.0),
]
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "limit": st.integers(1, 4),
    "max_waiters": st.sampled_from([None, 3, 0]),
    "min_idle": st.sampled_from([0, 0, 1, 2]),
    "acquire_timeout": st.sampled_from([2.0, None]),
    "idle_timeout": st.sampled_from([30.0, 1.0, None]),
    "lifetime": st.sampled_from([None, 600.0, 3.0]),
    "max_uses": st.sampled_from([None, None, 1, 2]),
    "manager_idle_timeout": st.sampled_from([None, 5.0, 0.0]),
    "reuse": st.sampled_from(["lifo", "fifo"]),
    "max_connecting": st.sampled_from([None, 2, 1]),
    "backoff": st.sampled_from([Backoff(first=0.5, most=4.0), None]),
    "fail_fast": st.booleans(),
    "check_after": st.sampled_from([1.0, 0.0]),
    "close_timeout": st.sampled_from([5.0, 0.0]),
    "leak_after": st.sampled_from([None, 1.0]),
    "hold_limit": st.sampled_from([None, None, 1.0, 3.0]),
    "keepalive": st.sampled_from([None, 0.5, 3.0]),
    "max_idle": st.sampled_from([None, None, 0, 1, 2]),
    "max_idents": st.sampled_from([None, 1000, 2, 1]),
    "ejection": st.sampled_from([None, *EJECTIONS]),
    "debug": st.sampled_from([False] * 7 + [True]),
}
HOOKS = st.lists(st.sampled_from(["prepare", "check", "reset", "clean"]), unique=True)
POOL_LIMITS = st.sampled_from([None, None, 1, 3, 5])
FRESH = st.sampled_from([False, False, False, True])
COUNTS = st.sampled_from([1, 1, 2, 3])
SECONDS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 20.0, 700.0])
TIMEOUTS = st.sampled_from([None, None, 0.0, 0.5, 1.0, 20.0, float("inf")])
WHICH = st.integers(0, 12)
WARMED = st.one_of(WHICH, WHICH, st.none())  # None: for nobody in particular
SETTLINGS = ["release", "release", "finished", "failed", "abort", "close"]
THEN = st.sampled_from(["hold", "hold", "hold", "release", "finish", "ask"])
TIMES = st.sampled_from([1, 1, 2, 4])
EVENTS = sorted({each.__name__ for each in [*Event.__subclasses__(), *Settled.__subclasses__()]})
TRIGGERS = [*EVENTS, "made", "lost", "prepare", "check", "reset", "clean", "Leased", "Leased"]
REACTIONS = ["cancel", "release", "finished", "abort", "reset", "close", "ask", "try", "resize"]
REACTIONS += ["pause", "resume", "invalidate", "explain", "drain", "end", "cancel", "cancel"]
REACTIONS += ["other", "other", "detach", "fresh", "warm", "leave", "limit"]
SIDES = st.sampled_from([0, 0, 0, 1])


def agreeing(settings: dict[str, Any], hooks: list[str], pool_limit: int | None) -> dict[str, Any]:
    """The settings, changed where they would contradict each other, or the limit of the pool."""
    chosen = dict(settings)
    if chosen["backoff"] is None:
        chosen |= {"fail_fast": True, "min_idle": 0}
    most_idle = math.inf if chosen["max_idle"] is None else chosen["max_idle"]
    most = math.inf if pool_limit is None else pool_limit
    chosen["min_idle"] = min(chosen["min_idle"], chosen["limit"], most_idle, most)
    keepalive, idle_timeout = chosen["keepalive"], chosen["idle_timeout"] or math.inf
    is_useless = keepalive is not None and (keepalive > idle_timeout or not most_idle)
    if "check" not in hooks or is_useless:
        chosen["keepalive"] = None
    return chosen
