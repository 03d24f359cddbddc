"""C{Checker}: checks idle connections of one manager, and says what becomes of them.

It has no state of its own: which connections are in a check is in C{Checks}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from kolus.events import Why
from kolus.health import CHECK_FAILED

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.manager.base import BaseManager

__all__ = ["Checker"]


class Checker:
    """Runs the policy's check, before a lease or as a keep-alive."""

    __slots__ = ("_checks", "_manager")

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._checks = manager.connections.checking

    def are_too_few(self, leases_each: int = 1) -> bool:
        """Whether more take anything, or what was leased before, than those in a check can serve.

        @param leases_each: how many leases each of these can carry.
        """
        in_check = self._checks.counted_on - self._manager.freshness.in_check()
        served = in_check * leases_each
        return served < self._manager.waiters.count(served + 1)

    def check(self, connection: Connection[Any]) -> Deferred[None]:
        """Check a connection that is not in C{idle} any more. If it passes, it is leased to the
        next waiter, or becomes idle.

        @return: fires when that is done; never fails.
        """
        manager = self._manager
        if not connection.is_quiet(manager.now()):
            return succeed(None)  # the check would take it for an answer
        self._checks.begin(connection)
        manager.alarm.set(self._checks.slow_at())
        manager.record.changed(manager)
        return manager.hooks.check(connection).addCallback(self._was_checked, connection)

    def _was_checked(self, fit: bool, connection: Connection[Any]) -> None:
        manager, dispatcher = self._manager, self._manager.dispatcher
        is_news = fit or self._checks.note_failure(connection)
        good_at = self._checks.end(connection)
        manager.connections.close_overdue()  # a check takes a while
        if not (fit and connection.usable()):
            self._was_unfit(connection, good_at, passed=fit, is_news=is_news)
        elif (
            manager.lifecycle.serves
            and manager.waiters.is_asked(reused=connection.uses > 0)
            and not manager.record.shrinking.is_above()
        ):
            # Do not make it idle first: with a short check_after it would be checked again.
            manager.give(connection)
        else:
            dispatcher.take_back(connection)
        dispatcher.decide()

    def _was_unfit(
        self, connection: Connection[Any], good_at: float, *, passed: bool, is_news: bool
    ) -> None:
        """
        @param good_at: when it was last known to be good, before that check.
        @param passed: whether it passed its check all the same: it was closed meanwhile.
        @param is_news: what C{Checks.note_failure} gave.
        """
        manager, record = self._manager, self._manager.record
        stillborn = connection.stillborn() and not connection.retired
        if is_news and not (passed or connection.fault) and connection.kept_since is None:
            record.health.check_failed()  # a keep-alive tells only of the connection
        manager.connections.close(connection, Why.UNFIT, abort=True)
        if stillborn:
            error: BaseException = ConnectionAbortedError("it was closed in its check")
            if connection.unfit_by is not None:
                error, connection.but = connection.unfit_by, CHECK_FAILED
            error = connection.fault or error
            # Count it as a failed check only: a connect must not end a row of failed checks.
            connector = manager.connector
            tell = connector.failed if passed else connector.note_failure
            tell(error, connection)
            record.turns.wake()
        if not passed:
            self.doubt(good_at, is_told=connection.kept_since is None)

    def doubt(self, good_at: float, *, is_told: bool) -> None:
        """A check has failed, or is slow: doubt all that are in a check or would have to be
        checked. If somebody waits, check the latter now.

        @param good_at: when that connection was last known to be good. All that are no younger are
            to be checked before they are leased, however short they were idle.
        @param is_told: whether the backend was told of that.
        """
        manager, connections, checks = self._manager, self._manager.connections, self._checks
        manager.hooks.distrusted_at = max(manager.hooks.distrusted_at, good_at)
        if checks.is_doubting:
            return
        checks.is_doubting = True
        try:
            checks.doubt_all(is_told=is_told)
            for connection in tuple(connections.idle):
                if not (manager.lifecycle.serves and manager.waiters.is_asked()):
                    break
                if connection in connections.idle and manager.hooks.is_stale(connection):
                    connections.take(connection)
                    self.check(connection)
            checks.doubt_all(is_told=is_told)
        finally:
            checks.is_doubting = False
