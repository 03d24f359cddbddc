"""C{PoolOperation}: what an operator sees of a pool and does with it, apart from its leases."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList

from kolus.backend import AnyBackend, Backend, several
from kolus.status import Counters, Status
from kolus.support import check_seconds
from kolus.watching import ManagerExplanation, PoolExplanation

if TYPE_CHECKING:
    from kolus.group import Groups
    from kolus.interfaces import IKolusManager
    from kolus.manager import Managers, Snapshots
    from kolus.policy import Policy

__all__ = ["PoolOperation"]


class PoolOperation:
    """Tells how the backends of a pool are, and changes how they are used."""

    def __init__(self, managers: Managers, snapshots: Snapshots, groups: Groups) -> None:
        self._managers = managers
        self._snapshots = snapshots
        self._groups = groups
        self._at = managers.at

    @property
    def policy(self) -> Policy:
        """What it was made with, but for the limit, which C{resize} changes."""
        return self._managers.policy

    # Watching

    def status(self, backends: Iterable[AnyBackend] | None = None) -> list[Status]:
        """The numbers of these backends, in their order; of all managers that run if C{None}.

        @raise ValueError: a backend cannot be understood.
        @raise TypeError: a backend is none, or C{backends} is a single one.
        """
        if backends is None:
            return [manager.status() for manager in self._managers]
        asked = several("backends", backends)
        return [self._snapshots.snapshot(Backend.of(each)) for each in asked]

    def manager(self, backend: AnyBackend, ident: Hashable = None) -> IKolusManager | None:
        """The manager that serves a backend, if one does.

        @param ident: where each ident has its own manager: whose; any one's if C{None}.
        """
        managers = self._at.get(Backend.of(backend).key, {})
        return managers.get(ident) if ident is not None else next(iter(managers.values()), None)

    def counters(self, backend: AnyBackend | None = None) -> Counters:
        """What has happened at a backend since the pool was made, or at all of them.

        Counted are the managers that the pool makes itself, those gone by now included. Of the
        backends that no group has, and that have no manager, the pool remembers the last thousand:
        what was counted at others is in the sum alone.

        @return: a copy.
        """
        records = self._managers.records
        if backend is None:
            return records.counters()
        record = records.find(Backend.of(backend).key)
        return Counters() if record is None else Counters() + record.counters

    def explain(self) -> PoolExplanation:
        """Who holds what, who waits and why, and how connecting went, for every manager.

        Of a backend without a manager it tells what the last attempt failed with, if it failed.

        @return: C{str} of it is a text for an operator.
        """
        told = [each.explain() for each in self._managers]
        for record in self._managers.records:
            if record.attempts.last_error is not None and not self._managers.of(record.backend):
                status = self._snapshots.snapshot(record.backend)
                told.append(ManagerExplanation.absent(status, record.attempts.last_error))
        return PoolExplanation(tuple(told))

    # Operating

    def pause(self, backend: AnyBackend | None = None) -> None:
        """Give no leases of a backend, or of any if C{None}, and connect to none, until C{resume}.

        Requests wait, each until its deadline; what is leased stays so. It holds for managers
        that are made later too.
        """
        self._managers.set_paused(None if backend is None else Backend.of(backend), True)

    def resume(self, backend: AnyBackend | None = None) -> None:
        """Serve again at a backend, or at all of them if C{None}; those who wait come first."""
        self._managers.set_paused(None if backend is None else Backend.of(backend), False)

    def resize(self, limit: int, backend: AnyBackend | None = None) -> None:
        """Set the limit of a backend, or of all that have no limit of their own if C{None}.

        A larger one serves those who wait at once. For a smaller one idle connections are closed
        now; then whatever comes home first is closed, until the limit holds. It holds for managers
        that are made later too; that of a backend until the list of a group says another limit for
        it than it did.

        @raise ValueError: C{limit} is no whole number of at least 1.
        """
        self._managers.resize(limit, None if backend is None else Backend.of(backend))

    def invalidate(self, backend: AnyBackend | None = None) -> None:
        """Replace the connections to a backend, or to all if C{None}, that are open now.

        What is idle is closed now, the rest as it comes home. Leases that are out stay, and new
        ones are given as ever.
        """
        self._managers.check_process()
        for manager in tuple(
            self._managers if backend is None else self._managers.of(Backend.of(backend))
        ):
            manager.invalidate()

    def eject(self, backend: AnyBackend) -> None:
        """Do not choose a backend until C{admit}, as if its health were bad."""
        self._managers.check_process()
        self._managers.records.of(Backend.of(backend), self.policy).health.eject()

    def admit(self, backend: AnyBackend) -> None:
        """Choose a backend again that was ejected, by hand or because it had failed."""
        self._managers.check_process()
        record = self._managers.records.find(Backend.of(backend).key)
        if record is not None:
            record.health.admit()

    # Ending

    def drain(self, backend: AnyBackend) -> Deferred[None]:
        """Give no new leases of a backend, wait for those that are out, and close its manager.

        Requests in its queue fail with C{Draining}, and so do new ones until it is closed; after
        that C{connect} makes a new manager.

        @return: fires with C{None} when no connection is left, at once if there is no manager.
            Cancelling it stops nothing.
        """
        return _when_all(self._managers.drain(Backend.of(backend)))

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """Close for ever: drain every backend for C{timeout} seconds at the most, then abort.

        Requests, those in queues too, fail with C{Closed}. Who still holds a lease when the time
        is over is told in the log. Closing twice is harmless, and may make the time shorter.

        @return: fires with C{None} when no connection is left. Cancelling it stops nothing.
        @raise ValueError: C{timeout} is no length of time.
        """
        check_seconds("timeout", timeout, optional=False)
        self._managers.check_process()
        self._groups.close()
        return _when_all(self._managers.close(timeout))


def _when_all(each: list[Deferred[None]]) -> Deferred[None]:
    """Fires with C{None} when all of them have; cancelling it cancels none of them."""
    done: Deferred[None] = Deferred()
    DeferredList(each).addCallback(lambda _: done.callback(None))
    return done
