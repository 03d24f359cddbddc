"""C{Policy}: all settings of a pool, in one frozen value."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

from kolus.backoff import Backoff
from kolus.balance import Balancer, fill_first, pick_two, usable
from kolus.context import ConnectContext
from kolus.health import Ejection
from kolus.support import (
    check_flag,
    check_seconds,
    check_whole,
    check_word,
    fewest_arguments,
    name_of,
)

__all__ = ["Hook", "Policy"]

Hook = Callable[[Any], object]
"""Is called with a connected protocol. It may return a Deferred, a coroutine, a future or task of
asyncio, or any other awaitable, and the pool waits for that. If it raises, fails, gives C{False} or
an exception, alone or in a list, or returns what cannot be awaited, as a generator, the connection
is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of a pool. Times are in seconds; C{None} means no bound, or off.

    @ivar limit: the maximum number of connections to a backend, for all idents together, including
        those that are connecting or closing.
    @ivar max_waiters: the maximum number of requests in the queue of a manager, not counting those
        for which a connection is or may be made. One more is rejected with C{PoolFull}. C{None}:
        any number wait, each until its deadline. 0: none waits; a request is rejected if the limit
        is reached.
    @ivar slots: number of leases that share one connection, for multiplexed or pipelined protocols.
        C{None}: each lease has its own connection.
    @ivar min_idle: number of idle connections to keep ready, as far as the limit allows.
    @ivar max_idle: the maximum number of idle connections. A connection that comes home when there
        are as many is closed, unless a request waits for it. C{None}: as many as the limit allows.
    @ivar acquire_timeout: the default time-out of a request.
    @ivar connect_timeout: time-out of an attempt to connect, including its TLS handshake.
    @ivar tcp_timeout: time without an answer after which a TCP connection counts as lost. The
        kernel asks an idle peer after half of it, and then after each sixth (C{SO_KEEPALIVE},
        C{TCP_KEEPIDLE}, C{TCP_KEEPINTVL}, C{TCP_KEEPCNT}). It waits no longer until the peer takes
        what was sent (C{TCP_USER_TIMEOUT}), also if the peer lives and does not read. Linux by
        itself asks after two hours, and waits a quarter of an hour, or for ever. Two minutes are
        longer than a network takes to recover and a busy peer to read on; a minute is shorter than
        address translators take to forget a connection. What C{connectionMade} sets is kept.
        C{None}: as the system has it.
    @ivar idle_timeout: time after which an idle connection is closed. To keep none idle, see
        C{max_idle}.
    @ivar idle_jitter: the idle time-out of each connection is shortened by up to this share, at
        random. So a burst of idle connections is not closed at once.
    @ivar lifetime: a connection older than this is closed as soon as it is not leased.
    @ivar lifetime_jitter: the lifetime of each connection is shortened by up to this share, at
        random.
    @ivar max_uses: number of leases after which a connection is closed, when it is released.
    @ivar manager_idle_timeout: time after which a manager without any connection closes itself.
    @ivar idents: what happens if another ident asks for a backend that has a manager.
        C{"separate"}: it gets its own manager; all share the backend's limit. C{"replace"}: it
        takes over; idle connections are closed now, leased ones when they are settled. C{"reject"}:
        it gets C{WrongIdent}.
    @ivar max_idents: the maximum number of managers of one backend, each for another ident. If
        there are more, those without leases and waiters are closed, the longest unused first.
        C{None}: any number.
    @ivar reuse: which idle connection is leased. C{"lifo"}: the last released, so surplus
        connections become idle and are closed. C{"fifo"}: the one that was idle longest.
    @ivar prepare: called once with each new protocol before its first lease, for example to
        authenticate. If it cannot be called with one argument, it gets the L{ConnectContext} as the
        second: for whom the connection is, for example. A second argument that has a default keeps
        its default.
    @ivar prepare_timeout: time-out of C{prepare}. If it is exceeded, the attempt to connect has
        failed.
    @ivar check: called before a lease with a connection that was idle for C{check_after}.
    @ivar check_timeout: time-out of C{check}. If it is exceeded, the connection is closed.
    @ivar check_after: a connection that was idle for less time is leased without a check.
    @ivar keepalive: time after which an idle connection is checked with C{check}, again and again,
        so that one that died in silence is found and closed before a request gets it. This is not
        a use: the idle time-out goes on. A few connections are checked at a time, the others can
        be leased meanwhile.
    @ivar reset: called when a lease is released, before the next lease of the connection. It
        excludes C{slots}.
    @ivar reset_timeout: time-out of C{reset}. If it is exceeded, the connection is closed.
    @ivar clean: called with the protocol when a lease ends, before C{reset}; returns whether
        nothing is under way on it. Then an exception in the lease's block releases the lease if it
        is clean; and a lease that is released but not clean is finished, counted (C{unclean}) and
        logged. If it raises or returns anything but C{True} or C{False}, the connection is closed.
        It excludes C{slots}. C{None}: an exception finishes the lease, and what is released counts
        as clean.
    @ivar close_timeout: a connection that has not closed after this time is aborted.
    @ivar max_connecting: the maximum number of attempts to connect to a backend at a time;
        C{None}: as many as the limit allows. With a C{backoff} a burst of attempts begins with
        four, and their number doubles while they succeed. After a failed attempt there is one at a
        time.
    @ivar backoff: the delays between attempts to connect after failures; C{None}: no delays.
    @ivar fail_fast: whether a request fails at once with the last error, if the next attempt is not
        due and nothing else can serve it. After a first failure one request fails, and those that
        wait behind it have the next attempt. C{False}: a request waits until its deadline, as the
        backend may recover.
    @ivar ejection: when a failing backend is ejected, and for how long; C{None}: never.
    @ivar probe: called with a connection to an ejected backend when a probe is due. If it succeeds,
        the backend is admitted. C{None}: one request is the probe.
    @ivar probe_timeout: time-out of C{probe}, from the request for the connection.
    @ivar balancer: the default balancer of C{select} and groups: takes statuses, and returns one of
        them.
    @ivar hold_limit: time after which a lease is revoked: its connection is aborted, and later use
        of it is an error that says so. Of a shared connection only this lease ends; the connection
        is closed when its last lease has ended.
    @ivar leak_after: time after which a lease is counted and logged, once, as a possible leak.
    @ivar debug: whether to record where each lease was taken and settled, for messages about leases
        that were forgotten, held too long, or used after their end. The protocol of a lease is then
        a proxy that refuses to work after the lease is settled.
    @raise ValueError: a number is out of its range, a word is unknown, a flag is neither true nor
        false, or two settings contradict each other.
    @raise TypeError: a hook or the balancer is not callable.
    """

    limit: int = 10
    max_waiters: int | None = None
    slots: int | None = None
    min_idle: int = 0
    max_idle: int | None = None
    acquire_timeout: float | None = 5.0
    connect_timeout: float | None = 5.0
    tcp_timeout: float | None = 120.0
    idle_timeout: float | None = 60.0
    idle_jitter: float = 0.1
    lifetime: float | None = 1800.0
    lifetime_jitter: float = 0.2
    max_uses: int | None = None
    manager_idle_timeout: float | None = 300.0
    idents: Literal["separate", "replace", "reject"] = "separate"
    max_idents: int | None = 1000
    reuse: Literal["lifo", "fifo"] = "lifo"
    prepare: Hook | Callable[[Any, ConnectContext], object] | None = None
    prepare_timeout: float | None = 5.0
    check: Hook | None = None
    check_timeout: float | None = 1.0
    check_after: float = 5.0
    keepalive: float | None = None
    reset: Hook | None = None
    reset_timeout: float | None = 5.0
    clean: Callable[[Any], bool] | None = None
    close_timeout: float | None = 5.0
    max_connecting: int | None = None
    backoff: Backoff | None = Backoff()  # noqa: RUF009 (it is frozen)
    fail_fast: bool = True
    ejection: Ejection | None = Ejection()  # noqa: RUF009 (it is frozen)
    probe: Hook | None = None
    probe_timeout: float | None = 5.0
    balancer: Balancer = pick_two()  # noqa: RUF009 (it has no state but the module random's)
    hold_limit: float | None = None
    leak_after: float | None = 60.0
    debug: bool = False

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_choices()
        self._check_callables()
        self._check_pairs()

    def _check_numbers(self) -> None:
        check_whole("limit", self.limit, 1)
        check_whole("min_idle", self.min_idle, 0)
        for name, least in _OPTIONAL_WHOLE.items():
            check_whole(name, getattr(self, name), least, optional=True)
        for name in _DURATIONS:
            check_seconds(name, getattr(self, name))
        check_seconds("check_after", self.check_after, optional=False)
        for name in _MORE_THAN_0:
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be more than 0; None turns it off")
        for name in ("idle_jitter", "lifetime_jitter"):
            share = getattr(self, name)
            if not (isinstance(share, int | float) and 0 <= share < 1):
                raise ValueError(f"{name} must be a share from 0 to below 1, not {share!r}")

    def _check_choices(self) -> None:
        for name in ("fail_fast", "debug"):
            check_flag(name, getattr(self, name), ValueError)
        check_word("reuse", self.reuse, ("lifo", "fifo"))
        check_word("idents", self.idents, ("separate", "replace", "reject"))
        if self.ejection is not None and not isinstance(self.ejection, Ejection):
            raise TypeError(f"ejection must be an Ejection or None, not {self.ejection!r}")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise TypeError(f"backoff must be a Backoff or None, not {self.backoff!r}")

    def _check_callables(self) -> None:
        for name in ("prepare", "check", "reset", "clean", "probe"):
            if getattr(self, name) is not None:
                _check_hook(name, getattr(self, name))
        usable(self.balancer)

    def _check_pairs(self) -> None:
        """Refuse settings that are valid, but of no use together."""
        for name in ("clean", "reset"):
            if self.slots is not None and getattr(self, name) is not None:
                raise ValueError(
                    f"slots and {name} exclude each other: others use a shared connection"
                )
        if self.backoff is None and not self.fail_fast:
            raise ValueError("fail_fast=False needs a backoff: without one, attempts never pause")
        if self.backoff is None and self.min_idle:
            raise ValueError("min_idle needs a backoff: without one, attempts never pause")
        if self.probe is not None and self.ejection is None:
            raise ValueError("probe needs an ejection: only an ejected backend is probed")
        self._check_numbers_of_idle()
        self._check_times_of_idle()

    def _check_numbers_of_idle(self) -> None:
        if self.min_idle > self.limit:
            raise ValueError(
                f"min_idle={self.min_idle} is more than limit={self.limit}: so many connections "
                "cannot be idle; lower min_idle, or raise limit"
            )
        if self.max_idle is not None and self.min_idle > self.max_idle:
            raise ValueError(
                f"min_idle={self.min_idle} is more than max_idle={self.max_idle}: so many "
                "connections are not kept; lower min_idle, or raise max_idle"
            )

    def _check_times_of_idle(self) -> None:
        """Refuse checks that would never be made."""
        ends_by, most = self._longest_idle()
        if self.keepalive is not None:
            if self.max_idle == 0:
                raise ValueError(
                    f"keepalive={self.keepalive} is of no use with max_idle=0: no connection is "
                    "idle"
                )
            if self.keepalive > most:
                raise ValueError(
                    f"keepalive={self.keepalive} is more than {ends_by}={most}: no connection is "
                    f"idle for so long; lower keepalive, or raise {ends_by}"
                )
        elif self.check is not None and self.check_after > most:
            raise ValueError(
                f"check is never called, because check_after={self.check_after} is more than "
                f"{ends_by}={most}; lower check_after, or raise {ends_by}"
            )

    def _longest_idle(self) -> tuple[str, float]:
        """The setting that ends an idle connection first, and its value. The idle time-out does not
        end those that C{min_idle} keeps."""
        times = {"lifetime": self.lifetime}
        if not self.min_idle:
            times["idle_timeout"] = self.idle_timeout
        set_ones = [(name, value) for name, value in times.items() if value is not None]
        return min(set_ones, key=lambda each: each[1], default=("", math.inf))

    def completed(self, **hooks: Any) -> Policy:
        """The same policy with hooks of a protocol's client where it has none of its own. A
        C{check} that would never be called is left out."""
        missing = {name: hook for name, hook in hooks.items() if getattr(self, name) is None}
        if self.keepalive is None and self.check_after > self._longest_idle()[1]:
            missing.pop("check", None)
        return replace(self, **missing)

    def check_complete(self) -> None:
        """Refuse a setting that needs a hook that is not there. A client adds its hooks first.

        @raise ValueError: it says which.
        """
        if self.keepalive is not None and self.check is None:
            raise ValueError(f"keepalive={self.keepalive} needs a check: that is what it runs")

    def resized(self, limit: int) -> Policy:
        """The same policy with the limit that C{Pool.resize} sets. It may be less than C{min_idle},
        which applies as far as the limit allows."""
        changed = copy(self)
        object.__setattr__(changed, "limit", limit)
        return changed

    @classmethod
    def erlang(cls, **changes: Any) -> Policy:
        """The settings of the original in Erlang, with any C{changes}.

        There is no queue: a request is rejected if all connections are leased. The connection that
        was idle longest is leased first. A connection may be idle for 5 s and has no lifetime. A
        backend serves one ident at a time, and its unused manager closes itself after 5 s. There is
        no back-off, ejection or leak report.
        """
        original: dict[str, Any] = {
            "max_waiters": 0,
            "idle_timeout": 5.0,
            "idle_jitter": 0.0,
            "idents": "reject",
            "leak_after": None,
            "lifetime": None,
            "manager_idle_timeout": 5.0,
            "reuse": "fifo",
            "backoff": None,
            "ejection": None,
            "balancer": fill_first,
        }
        return cls(**original | changes)


def _check_hook(name: str, hook: object) -> None:
    if not callable(hook):
        raise TypeError(f"{name} must be callable with a protocol, not {hook!r}")
    if name == "prepare":
        if fewest_arguments(hook, 1, 2) is None:
            raise TypeError(
                "prepare must be callable with a protocol, or with a protocol and a context, but "
                f"{name_of(hook)} takes neither"
            )
    elif fewest_arguments(hook, 1, 1) is None:
        raise TypeError(
            f"{name} must be callable with a protocol, but {name_of(hook)} cannot be called with "
            "one argument"
        )


_OPTIONAL_WHOLE = {
    "max_connecting": 1,
    "max_idents": 1,
    "max_idle": 0,
    "max_uses": 1,
    "max_waiters": 0,
    "slots": 1,
}
"""The least that each of these may be; C{None} is allowed, too."""

_MORE_THAN_0 = (
    "connect_timeout",
    "hold_limit",
    "idle_timeout",
    "keepalive",
    "leak_after",
    "lifetime",
    "prepare_timeout",
    "probe_timeout",
    "check_timeout",
    "reset_timeout",
    "tcp_timeout",
)
"""The times that would always be exceeded if they were 0."""

_DURATIONS = (*_MORE_THAN_0, "acquire_timeout", "close_timeout", "manager_idle_timeout")
