"""The interface that every kind of manager provides, and the contract behind it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.lease import Lease
    from kolus.status import Status
    from kolus.watching import ManagerExplanation, Owner

__all__ = ["IKolusManager", "IServesGroups", "ISlots", "ISource"]


class IKolusManager(Interface):
    """Keeps the connections of one backend for one ident, and leases them out.

    A manager is open until C{drain} or C{close} is called, or until it decides by itself that
    nobody needs it; then it is closed, for ever. It gives each C{Lease} a private I{settle}
    callable, so a caller never learns what kind of manager it has.
    C{kolus.testing.check_manager} checks this contract.
    """

    backend: Backend = Attribute("where the connections lead")
    ident: Hashable = Attribute("whom they are for; no other ident is ever served")

    def connect(
        ident: Hashable, timeout: float | None = None, owner: Owner | None = None
    ) -> Deferred[Lease[Any]]:
        """Ask for a lease.

        Requests are served in the order they come. A request that gives up neither ends an
        attempt to connect nor loses a connection.

        @param timeout: seconds until the request fails, from now, whatever happens in between;
            the manager's own default if C{None}.
        @param owner: a Deferred, a Protocol or a Service: when it ends, the lease is finished; the
            request is cancelled if it still waits. A service that was stopped before it owned
            anything cannot be told from one that is about to start.
        @return: fires with a C{Lease}, at once if a connection is ready. Fails with
            C{LeaseTimeout} at the deadline, C{ConnectFailed} if the backend cannot be reached
            and nothing else can serve the request, C{PoolFull}, C{WrongIdent} or C{Draining}
            at once, C{Closed} if the manager is closed or being closed, C{LeaseError} if C{owner}
            has ended, or holds itself all that this request could ever be served with, or if
            this is a forked child of the process that made the manager. Cancelling gives up the
            place in the queue.
        @raise ValueError: C{timeout} is no length of time.
        @raise TypeError: C{owner} can be no owner.
        """

    def try_connect(ident: Hashable, owner: Owner | None = None) -> Lease[Any] | None:
        """Lease at once or not at all, without a Deferred.

        @return: a lease, or C{None} if C{connect} would have had to wait.
        @raise Rejected: as C{connect} fails: C{WrongIdent}, C{Draining}.
        @raise Closed: the manager is closed or being closed.
        @raise LeaseError: C{owner} has ended, or the manager is another process's.
        @raise TypeError: C{owner} can be no owner.
        """

    def status() -> Status:
        """The numbers now."""

    def explain() -> ManagerExplanation:
        """Who holds what, who waits and why, and what the last attempt to connect came to."""

    def pause() -> None:
        """Give no leases and make no connections until C{resume}.

        Requests wait, each until its deadline. What is leased stays so, and comes home as ever.
        Calling it again, or when the manager is not open, changes nothing.
        """

    def resume() -> None:
        """Serve again, those who wait first. Without a C{pause} before, it changes nothing."""

    def resize(limit: int) -> None:
        """Set another limit of connections.

        A larger one serves those who wait at once. For a smaller one, connections that are being
        made and idle ones are closed now, as many as needed, the oldest idle first. While there are
        still more than the limit, each connection that comes home is closed, whichever that is.
        None is chosen before, so a larger limit set meanwhile keeps all that are left.

        A connection that several share is at home when its last lease is settled. While there are
        more than the limit, new leases go only to as many connections as the limit allows, those
        with most leases; so the others come home.

        Managers that share the limit share the new one. Those with most connections are the first
        to close what is idle.

        @raise ValueError: C{limit} is no whole number of at least 1.
        """

    def invalidate() -> None:
        """Replace everything that is open now: close what is idle, and the rest as it comes home.

        The manager stays open, and so do the leases that are out.
        """

    def drain() -> Deferred[None]:
        """Give no new leases, wait for those that are out, and close.

        Requests in the queue fail with C{Draining}, and so do new ones until it is closed.

        @return: fires with C{None} when no connection is left. Cancelling it stops nothing.
        """

    def close(timeout: float) -> Deferred[None]:
        """Drain for C{timeout} seconds at the most, then abort what is still open.

        Requests, those in the queue too, fail with C{Closed}. Calling it again is harmless, and
        may make the time shorter.

        @return: fires with C{None} when no connection is left. Cancelling it stops nothing.
        @raise ValueError: C{timeout} is no length of time.
        """

    def when_closed() -> Deferred[None]:
        """
        @return: fires with C{None} when the manager is closed, whoever closed it. Cancelling it
            changes nothing.
        """


class IServesGroups(Interface):
    """What a manager provides besides C{IKolusManager} if it serves the queues of groups, too.

    This is optional. A group asks a manager that does not provide it by C{connect} alone, one
    backend after the other: such a request waits in that manager's own queue, and no other backend
    serves it meanwhile. C{ConnectionManager} and C{SharedManager} provide it.
    """

    groups: Any = Attribute("the queues that it serves besides its own, by arrival of their heads")
    placements: Any = Attribute("the waiters of these queues that it connects for")
    admission: Any = Attribute("which requests may wait here")

    def serves() -> bool:
        """Whether it gives leases now."""

    def has_idle() -> bool:
        """Whether something may be ready to be leased."""

    def connections_changed() -> None:
        """See again who can be served."""

    def deadlock(owner: Owner | None, origin: str | None) -> Exception | None:
        """What a request fails with whose owner holds everything that can be leased here; else
        C{None}."""


class ISlots(Interface):
    """A protocol that knows how many leases one connection of it can carry at a time.

    It may have learnt it from its peer, for example. A protocol that does not provide this carries
    as many as the policy's C{slots} says. One that stays registered with its transport as a
    producer while nothing is asked of it cannot be pooled: a pool cannot tell it from one that a
    lessee left behind.
    """

    slots: int = Attribute("how many leases it can carry now; 0 for none, until it is more")

    def watch_slots(changed: Callable[[], object]) -> None:
        """Called once, when the protocol was made.

        @param changed: to be called whenever C{slots} is another number. Leases that are out are
            not affected by a smaller one; no new ones are given until some are settled.
        """


class ISource(Interface):
    """Tells who the backends of a group are, as they come and go.

    What it tells is always all of them: a list or tuple of at least one C{Backend}, none of them
    twice. Not a string, a pair or an endpoint in the place of a C{Backend}, nor anything that can
    be gone through only once. The group keeps it, so it must not change afterwards. Backends are
    taken for the same as before if they are equal: what is told of an endpoint object has to be the
    same C{Backend} each time, or one that stays is drained and connected to anew. Their limits,
    weights, names and zones may be others. A list of another form is refused, and the one before
    stays.
    """

    def start(listener: Callable[[Sequence[Backend]], object]) -> None:
        """Begin.

        @param listener: to be called with the backends, in the reactor's thread: at once if they
            are known at once, and again whenever they, or something about them, have changed.
            Never with none, as when they cannot be found out: then the last list stays. It may call
            C{stop}. It raises C{TypeError} if they are no sequence of C{Backend}, C{ValueError} if
            there is none, or one twice; what it raises, it has not heard.
        """

    def stop() -> None:
        """End: the listener hears no more, and no timer, file or query is left.

        It may be started again. Stopping twice is harmless, and so is stopping what was never
        started.
        """
