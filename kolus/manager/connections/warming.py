"""C{Warming}: makes connections before anybody asks for a lease, and tells when they are ready.

Its state is the calls of C{warm} that wait, each with how many connections it wants, since when,
and the timer of its deadline; and the same calls by that number, of which there are few.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, FirstError, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from kolus.errors import KolusError, LeaseTimeout
from kolus.interfaces import IServesGroups
from kolus.support import drop_frames

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.manager.base import BaseManager
    from kolus.manager.managers import Managers

__all__ = ["AFTER_REQUESTS", "Warming", "connect_from_the_start", "warm_each"]


AFTER_REQUESTS = 1 << 60
"""Is added to the number of a call of C{warm}: all requests come first."""


@dataclass(slots=True, eq=False)
class _Wish:
    """One call of C{warm}."""

    count: int
    since: float
    order: int
    timer: IDelayedCall | None = None


class Warming:
    """Connects until as many connections of one manager are ready as are wanted.

    @ivar wishes: what is waited for, the oldest first.
    """

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self.wishes: dict[Deferred[None], _Wish] = {}
        self._by_count: dict[int, dict[Deferred[None], None]] = {}

    def ask(self, count: int, timeout: float | None) -> Deferred[None]:
        """See C{Pool.warm}.

        @param timeout: seconds; the policy's C{acquire_timeout} if C{None}.
        """
        manager = self._manager
        manager.connections.look_at_idle()
        if self._ready() >= count:
            return succeed(None)
        told: Deferred[None] = Deferred(self._give_up)
        self.wishes[told] = wish = _Wish(count, manager.now(), next(manager.record.arrivals))
        self._by_count.setdefault(count, {})[told] = None
        seconds = manager.policy.acquire_timeout if timeout is None else timeout
        if seconds is not None and seconds < math.inf:
            wish.timer = manager.clock.callLater(seconds, self._expire, told)
        manager.connector.allow_next()
        manager.connections_changed()
        return told

    def wanted(self) -> int:
        """How many connections should be connecting."""
        most = max(self._by_count, default=0)
        return most - self._ready() if most else 0

    def next_order(self) -> float:
        """The number of the arrival of the oldest call that lacks a connection, which is higher
        than that of any request; infinity if none does."""
        ready = self._ready()
        for each in self.wishes.values():
            if each.count > ready:  # C{look} soon removes the others
                return AFTER_REQUESTS + each.order
        return math.inf

    def _ready(self) -> int:
        """How many connections are idle or leased."""
        connections = self._manager.connections
        return len(connections.all) - len(connections.connecting) - len(connections.closing)

    def look(self) -> None:
        """Something has changed: fire what has come true, and fail what cannot."""
        is_hopeless = self._is_hopeless()
        for count in sorted(self._by_count):
            if is_hopeless or self._ready() >= count or self._why_too_many(count) is not None:
                self._settle(count, is_hopeless)
        self._make_way()

    def _settle(self, count: int, is_hopeless: bool) -> None:
        """Fire or fail the calls for so many connections. What they call may change what is so."""
        for told in tuple(self._by_count.get(count, ())):
            if told not in self.wishes:
                continue
            error = self._why_too_many(count)
            if self._ready() >= count:
                self._forget(told)
                told.callback(None)
            elif error is not None or is_hopeless:
                self._forget(told)
                told.errback(error or self._manager.connector.error())

    def fail_all(self, error: KolusError) -> None:
        """The manager ends."""
        while self.wishes:
            told = next(iter(self.wishes))
            self._forget(told)
            told.errback(error)

    def _why_too_many(self, count: int) -> Exception | None:
        """Why so many cannot be ready, if they cannot."""
        manager, most_idle = self._manager, self._manager.policy.max_idle
        limit, where = manager.record.limit, manager.backend
        if count > limit:
            return ValueError(f"{count} connections to {where} are more than its limit of {limit}")
        if most_idle is not None and count > most_idle:
            return ValueError(
                f"{count} connections to {where} are more than max_idle={most_idle} keeps"
            )
        return None

    def _is_hopeless(self) -> bool:
        """Whether the last attempt failed, and no other is due: see the policy's C{fail_fast}."""
        manager = self._manager
        attempts = manager.record.attempts
        if attempts.last_error is None or manager.connections.connecting:
            return False
        is_later = attempts.retry_at > manager.now() and manager.policy.fail_fast
        return is_later or manager.connector.held_back

    def _expire(self, told: Deferred[None]) -> None:
        manager, wish = self._manager, self.wishes[told]
        self._forget(told)
        record, waited = manager.record, manager.now() - wish.since
        error = LeaseTimeout(
            manager.status(),
            waited,
            record.attempts.last_error,
            but=record.attempts.but,
            pool_limit=record.room.binding_pool_limit(),
            of_others=record.room.taken_by_others(manager),
        )
        error.add_note(f"{self._ready()} of {wish.count} connections were ready")
        told.errback(error)
        self._make_way()

    def _give_up(self, told: Deferred[None]) -> None:
        """The canceller of a call."""
        self._forget(told)
        self._make_way()

    def _make_way(self) -> None:
        """Nobody waits for what is ready any more: it may have to make way."""
        if not self.wishes:
            self._manager.record.turns.demand_fell(self._manager)

    def _forget(self, told: Deferred[None]) -> None:
        wish = self.wishes.pop(told, None)
        if wish is None:
            return
        same = self._by_count[wish.count]
        del same[told]
        if not same:
            del self._by_count[wish.count]
        if wish.timer is not None and wish.timer.active():
            wish.timer.cancel()


def warm_each(
    managers: Managers,
    ident: Hashable,
    backends: Iterable[Backend],
    count: int,
    timeout: float | None,
) -> Deferred[None]:
    """See C{Pool.warm}.

    @return: fires when all of them are ready; fails with the first error. The others are not waited
        for then.
    """
    asked: list[Deferred[None]] = []
    each_of, most = tuple(backends), managers.records.budget.limit
    if most is not None and count * len(each_of) > most:
        wanted = f"{count} connections to each of {len(each_of)} backends"
        return fail(ValueError(f"{wanted} are more than the pool's limit of {most}"))
    for backend in each_of:
        try:
            manager: Any = managers.provide(ident, backend)
            if not IServesGroups.providedBy(manager):
                raise TypeError(f"warm needs a manager with IServesGroups, not {manager!r}")
            asked.append(manager.admission.warm(ident, count, timeout))
        except Exception as error:
            drop_frames(error)  # whoever keeps the error must not keep what called this
            asked.append(fail(error))
    all_of_them = DeferredList(asked, fireOnOneErrback=True, consumeErrors=True)

    def give_up(failure: Failure) -> Failure:
        for each in asked:
            each.cancel()
        first: Any = failure.value
        return first.subFailure if failure.check(FirstError) else failure

    done: Any = all_of_them.addCallbacks(lambda _: None, give_up)
    return done  # type: ignore[no-any-return]


def connect_from_the_start(
    managers: Managers, ident: Hashable, backends: Iterable[Backend]
) -> None:
    """Make the managers of these backends, which keep the policy's C{min_idle} ready."""
    for backend in backends:
        manager: Any
        try:
            manager = managers.provide(ident, backend)
        except KolusError:
            continue  # it is counted and told as a failed attempt; the first request tries again
        if IServesGroups.providedBy(manager):
            manager.connections_changed()
