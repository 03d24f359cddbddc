"""C{PoolOperation}: the operator's methods of a pool: status, counters, pause, resize, close."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList

from kolus.backend import AnyBackend, Backend, several
from kolus.errors import shown
from kolus.manager import as_waiter, backend_status
from kolus.status import Counters, Status
from kolus.support import check_seconds
from kolus.watching import ManagerExplanation, PoolExplanation

if TYPE_CHECKING:
    from kolus.interfaces import IKolusManager
    from kolus.manager import Managers
    from kolus.policy import Policy
    from kolus.pool.groups import Groups

__all__ = ["PoolOperation"]


class PoolOperation:
    """Shows the state of a pool's backends, and controls their use."""

    def __init__(self, managers: Managers, groups: Groups) -> None:
        self._managers = managers
        self._groups = groups
        self._at = managers.at

    @property
    def policy(self) -> Policy:
        """The policy of the pool. C{resize} changes its limit."""
        return self._managers.policy

    @property
    def limit(self) -> int | None:
        """Most connections of all backends together; C{None}: only each backend has a limit."""
        return self._managers.records.budget.limit

    # Watching

    def status(self, backends: Iterable[AnyBackend] | None = None) -> list[Status]:
        """The numbers of these backends, in their order; of all managers if C{None}.

        @raise ValueError: a backend is invalid.
        @raise TypeError: a backend has a wrong type, or C{backends} is a single backend.
        """
        if backends is None:
            return [manager.status() for manager in self._managers]
        asked = several("backends", backends)
        return [backend_status(self._managers, Backend.of(each)) for each in asked]

    def manager(self, backend: AnyBackend, ident: Hashable = None) -> IKolusManager | None:
        """The manager of a backend; C{None} if it has none.

        @param ident: the ident of the manager. C{None}: any manager of the backend.
        """
        managers = self._at.get(Backend.of(backend).key, {})
        return managers.get(ident) if ident is not None else next(iter(managers.values()), None)

    def counters(self, backend: AnyBackend | None = None) -> Counters:
        """The counts of a backend since the pool was made; the sum of all backends if C{None}.

        They include closed managers, but only managers that the pool made itself. Of backends that
        have no manager and are in no group, the pool remembers the last thousand. The counts of
        older ones are only in the sum.

        @return: a copy.
        """
        records = self._managers.records
        if backend is None:
            return records.counters()
        record = records.find(Backend.of(backend).key)
        return Counters() if record is None else Counters() + record.counters

    def managers(self) -> Iterator[IKolusManager]:
        """All managers that are not closed. It may be taken one by one while they change."""
        return iter(self._managers)

    def explain(self, managers: Iterable[ManagerExplanation] | None = None) -> PoolExplanation:
        """The leases and waiters of every manager, why they wait, the last connect's result, and
        why backends are ejected.

        For a backend without a manager it contains the error of the last attempt, if that failed.

        @param managers: what C{explanations} has given, if that was taken before.
        @return: a value; C{str()} of it is a text for an operator.
        """
        told = tuple(self.explanations() if managers is None else managers)
        records = self._managers.records
        sick = tuple([(str(each.backend), each.health.reason) for each in records.sick.values()])
        return PoolExplanation(told, records.budget.used, records.budget.limit, sick)

    def explanations(self) -> Iterator[ManagerExplanation]:
        """The managers of C{explain}, each explained when it is taken: for who does other things
        between, as with thousands of them."""
        for each in self._managers:
            yield each.explain()
        for record in self._managers.records:
            if record.attempts.last_error is not None and not self._managers.of(record.backend):
                status = backend_status(self._managers, record.backend)
                yield ManagerExplanation.absent(status, record.attempts.last_error)

    # Operating

    def pause(self, backend: AnyBackend | None = None) -> None:
        """Give no leases of a backend and make no connections to it, until C{resume}.

        Requests wait until their deadlines; leases stay valid. It applies to later managers too.

        @param backend: C{None}: all backends.
        """
        self._managers.set_paused(None if backend is None else Backend.of(backend), True)

    def resume(self, backend: AnyBackend | None = None) -> None:
        """End the pause of a backend, or of all if C{None}. Waiters are served first."""
        self._managers.set_paused(None if backend is None else Backend.of(backend), False)

    def resize(self, limit: int, backend: AnyBackend | None = None) -> None:
        """Change the limit of connections of a backend.

        A larger limit serves waiters at once. For a smaller limit, idle connections are closed now;
        then each connection that comes home is closed, until the limit holds. It applies to later
        managers too. A backend's limit applies until a group's source changes the limit that it
        gives for the backend.

        @param backend: C{None}: all backends that have no limit of their own.
        @raise ValueError: C{limit} is not a whole number of at least 1.
        """
        self._managers.limits.resize(limit, None if backend is None else Backend.of(backend))

    def resize_pool(self, limit: int | None) -> None:
        """Change the limit of connections of all backends together.

        A larger limit serves waiters at once. For a smaller limit, the connections that are idle
        longest are closed now, then connects under way; then each connection that comes home is
        closed, until the limit holds.

        @param limit: C{None}: no limit but that of each backend.
        @raise ValueError: C{limit} is not a whole number of at least 1.
        """
        self._managers.limits.resize_pool(limit)

    def share_limits(self, other: PoolOperation) -> None:
        """Count the connections of each of two pools against the limits of the other, too, until
        one of them is closed. A status has them as C{detached}. It is for a pool that takes the
        place of another one. A slot that becomes free is for those who wait in the same pool first;
        what is idle in one makes way for those who wait in the other, within 0.1 s.
        Connections that were detached from the other pool do not count. To call it again for the
        same two has no effect.

        @param other: a pool with the same reactor or clock.
        @raise ValueError: C{other} is this pool.
        @raise TypeError: it is not a pool.
        """
        if not isinstance(other, PoolOperation):
            raise TypeError(f"a pool shares its limits with another pool, not {shown(other)}")
        self._managers.limits.share(other._managers.limits)

    def invalidate(self, backend: AnyBackend | None = None) -> None:
        """Replace all present connections to a backend, or to all backends if C{None}.

        Idle connections are closed now, leased ones when they are settled. Present leases stay
        valid, and new ones are given as usual. Endpoint strings are read anew, with the files of
        certificates that they name, and C{prepare} sees another C{generation}.
        """
        self._managers.process.check()
        records = self._managers.records
        where = None if backend is None else Backend.of(backend)
        for record in records if where is None else records.among({where.key: where}):
            if not record.members:  # else a manager does it
                record.renew()
        for manager in tuple(self._managers if where is None else self._managers.of(where)):
            manager.invalidate()

    def eject(self, backend: AnyBackend) -> None:
        """Eject a backend: balancers do not choose it until C{admit}."""
        self._managers.process.check()
        self._managers.records.of(Backend.of(backend), self.policy).health.eject()

    def admit(self, backend: AnyBackend) -> None:
        """Admit a backend that was ejected, by C{eject} or because of failures."""
        self._managers.process.check()
        record = self._managers.records.find(Backend.of(backend).key)
        if record is not None:
            record.health.admit()

    def ejected_by_hand(self) -> list[Backend]:
        """The backends that C{eject} has ejected, and that C{admit} has not admitted since."""
        sick = self._managers.records.sick.values()
        return [each.backend for each in sick if each.health.is_by_hand]

    def checked(self, backend: AnyBackend, failure: str = "") -> None:
        """Take the result of a health check that you make yourself, at every check. See
        C{kolus.checking}, which does this.

        @param failure: why the backend is down. It is ejected, without a bound in time, until it is
            up again, or until C{admit} and the next result. Empty: it is up. A backend that was
            ejected by hand, or because of failures, stays so.
        @raise TypeError: C{failure} is not a string.
        """
        if not isinstance(failure, str):
            raise TypeError(
                "failure must be a string that says why the backend is down, or empty if it is up, "
                f"not {shown(failure)}"
            )
        self._managers.process.check()
        backend = Backend.of(backend)
        records = self._managers.records
        record = records.of(backend, self.policy) if failure else records.find(backend.key)
        if record is not None:
            record.health.checked(failure)

    # Ending

    def drain(self, backend: AnyBackend) -> Deferred[None]:
        """Give no new leases of a backend, wait until the present ones are settled, and close.

        Requests in the queue fail with C{Draining}, and so do new ones until the backend's manager
        is closed. After that C{connect} makes a new manager.

        @return: fires with C{None} when no connection is left; at once if there is no manager.
            Cancelling it stops nothing.
        """
        return _when_all(self._managers.drain(Backend.of(backend)))

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """Close the pool for ever: drain all backends for C{timeout} seconds, then abort.

        New requests and those in queues fail with C{Closed}. Leases that are still held after the
        time-out are logged. Closing twice is allowed, and may shorten the time.

        @return: fires with C{None} when no connection is left. Cancelling it stops nothing.
        @raise ValueError: C{timeout} is not a number of seconds.
        """
        check_seconds("timeout", timeout, optional=False)
        self._managers.process.check()
        self._groups.close()
        closed = _when_all(self._managers.close(timeout))
        return closed.addCallback(lambda _: self._managers.limits.share_no_more())


def _when_all(each: list[Deferred[None]]) -> Deferred[None]:
    """A Deferred that fires with C{None} when all of them have; cancelling it cancels none."""
    done: Deferred[None] = Deferred()
    DeferredList(each).addCallback(lambda _: done.callback(None))
    return as_waiter(done)
