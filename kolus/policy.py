"""Every number and time of a pool in one frozen value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kolus.backoff import Backoff
from kolus.balance import Balancer, fill_first, pick_two
from kolus.health import Ejection
from kolus.support import check_seconds, check_whole

__all__ = ["Hook", "Policy"]

Hook = Callable[[Any], object]
"""Called with a connected protocol. What it returns may be a Deferred or a coroutine, which is
waited for; an exception or a failure costs the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a pool behaves. Times are in seconds; C{None} means without a bound, or off.

    @raise ValueError: a number is out of its range, or a word is unknown.
    @raise TypeError: a hook, or the balancer, cannot be called.
    """

    limit: int = 10
    """Most connections of one manager, those being made and being closed included."""
    max_waiters: int | None = None
    """Most requests in the queue beyond those that a connection is being or may be made for;
    10 times as many as there can be leases, at least 100, if C{None}. 0: full means rejected."""
    slots: int | None = None
    """How many leases share one connection, for protocols that are multiplexed or pipelined;
    C{None}: a lease has its connection to itself."""
    min_idle: int = 0
    """Connections kept ready beyond what is asked for, as far as the limit allows."""
    acquire_timeout: float | None = 5.0
    """How long a request may take, if it does not say so itself."""
    connect_timeout: float | None = 5.0
    """How long making a connection may take, its TLS handshake included."""
    idle_timeout: float | None = 60.0
    """A connection that nobody leased for so long is closed."""
    idle_jitter: float = 0.1
    """The idle timeout of each connection is shortened by up to this share, at random."""
    lifetime: float | None = 1800.0
    """A connection older than this is closed as soon as it is not leased."""
    lifetime_jitter: float = 0.2
    """The lifetime of each connection is shortened by up to this share, at random."""
    max_uses: int | None = None
    """A connection that was leased so often is closed when it comes home."""
    manager_idle_timeout: float | None = 300.0
    """A manager that has had no connection for so long goes away."""
    idents: Literal["reject", "replace", "separate"] = "reject"
    """What another ident gets at a backend whose manager lives: C{"reject"}: C{WrongIdent};
    C{"replace"}: it takes over, what is idle is closed now, what is leased when it comes home;
    C{"separate"}: a manager of its own, under one limit for the backend."""
    reuse: Literal["lifo", "fifo"] = "lifo"
    """Which idle connection is leased: C{"lifo"} the last released, so that surplus ages out;
    C{"fifo"} the one idle longest."""
    prepare: Hook | None = None
    """Called once with each new protocol, before anybody leases it: authenticate, choose."""
    prepare_timeout: float | None = 5.0
    """How long that may take; a connection that takes longer is an attempt that failed."""
    check: Hook | None = None
    """Called before a connection is leased that was idle for C{check_after}; C{False} or an
    exception means that it is dead."""
    check_timeout: float | None = 1.0
    """How long that may take; a connection that takes longer is closed."""
    check_after: float = 5.0
    """How long a connection may have been idle and still be leased without a check."""
    reset: Hook | None = None
    """Called when a lease is released, before anybody else can have the connection; so it cannot be
    with C{slots}."""
    reset_timeout: float | None = 5.0
    """How long that may take; a connection that takes longer is closed."""
    close_timeout: float | None = 5.0
    """A connection that is not gone so long after it was told to close is aborted."""
    max_connecting: int = 2
    """Most connections of one manager being made at a time; one while the last attempt failed."""
    backoff: Backoff | None = Backoff()  # noqa: RUF009 (it is frozen)
    """How long to leave a backend alone after attempts that failed; not at all if C{None}."""
    fail_fast: bool = True
    """Fail a request with the last reason while the next attempt is not due and nothing else can
    serve it; if C{False} it waits until its deadline, for a backend that may come back."""
    ejection: Ejection | None = Ejection()  # noqa: RUF009 (it is frozen)
    """When a backend that fails is not chosen any more, and for how long; never if C{None}."""
    probe: Hook | None = None
    """Called with a connection to an ejected backend when its time is over: if it goes well the
    backend is chosen again. If C{None}, one request is the probe."""
    probe_timeout: float | None = 5.0
    """How long that may take, from when the connection is asked for."""
    balancer: Balancer = pick_two()  # noqa: RUF009 (it has no state but the module random's)
    """What C{select} chooses with, if it is not told: a callable from statuses to one of them."""
    leak_after: float | None = 60.0
    """A lease held for so long is counted and told in the log, once, as a possible leak."""
    debug: bool = False
    """Remember where each lease was taken and settled, for the messages about one that was
    forgotten, held for too long, or used after it was settled: its protocol is then handed out
    behind a proxy that refuses to work once the lease is settled."""

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("max_connecting", 1), ("min_idle", 0)):
            check_whole(name, getattr(self, name), least)
        for name, least in (("max_waiters", 0), ("max_uses", 1), ("slots", 1)):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least)
        for name in _DURATIONS:
            check_seconds(name, getattr(self, name))
        check_seconds("check_after", self.check_after, optional=False)
        for name in ("leak_after", "lifetime"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be more than 0; None turns it off")
        for name in ("idle_jitter", "lifetime_jitter"):
            share = getattr(self, name)
            if not (isinstance(share, int | float) and 0 <= share < 1):
                raise ValueError(f"{name} must be a share from 0 to below 1, not {share!r}")
        for name in ("fail_fast", "debug"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.reuse not in ("lifo", "fifo"):
            raise ValueError(f"reuse must be 'lifo' or 'fifo', not {self.reuse!r}")
        if self.idents not in ("reject", "replace", "separate"):
            raise ValueError(
                f"idents must be 'reject', 'replace' or 'separate', not {self.idents!r}"
            )
        for name in ("prepare", "check", "reset", "probe"):
            hook = getattr(self, name)
            if hook is not None and not callable(hook):
                raise TypeError(f"{name} must be callable with a protocol, not {hook!r}")
        if self.slots is not None and self.reset is not None:
            raise ValueError("slots and reset exclude each other: others use a shared connection")
        if not callable(self.balancer):
            raise TypeError(f"balancer must be callable with statuses, not {self.balancer!r}")
        if self.ejection is not None and not isinstance(self.ejection, Ejection):
            raise TypeError(f"ejection must be an Ejection or None, not {self.ejection!r}")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise TypeError(f"backoff must be a Backoff or None, not {self.backoff!r}")
        if self.backoff is None and not self.fail_fast:
            raise ValueError("fail_fast=False needs a backoff: without one, attempts never pause")
        if self.backoff is None and self.min_idle:
            raise ValueError("min_idle needs a backoff: without one, attempts never pause")

    def most_waiters(self, limit: int) -> int:
        """The bound of the queue of a manager with that limit of connections."""
        if self.max_waiters is not None:
            return self.max_waiters
        return max(100, 10 * limit * (self.slots or 1))

    @classmethod
    def erlang(cls, **changes: Any) -> Policy:
        """The numbers and the manners of the original, with any C{changes}.

        Full means rejected at once, the oldest idle connection goes first, a connection is idle
        for 5 s at most and lives for ever, and an unused manager goes away after 5 s.
        """
        original: dict[str, Any] = {
            "max_waiters": 0,
            "idle_timeout": 5.0,
            "idle_jitter": 0.0,
            "leak_after": None,
            "lifetime": None,
            "manager_idle_timeout": 5.0,
            "reuse": "fifo",
            "backoff": None,
            "ejection": None,
            "balancer": fill_first,
        }
        return cls(**original | changes)


_DURATIONS = (
    "acquire_timeout",
    "connect_timeout",
    "idle_timeout",
    "leak_after",
    "lifetime",
    "manager_idle_timeout",
    "prepare_timeout",
    "probe_timeout",
    "check_timeout",
    "reset_timeout",
    "close_timeout",
)
