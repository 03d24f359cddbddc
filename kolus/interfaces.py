"""The contracts of managers, of protocols with slots, and of sources."""

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

__all__ = ["IGivesFresh", "IKolusManager", "IServesGroups", "ISlots", "ISource"]


class IKolusManager(Interface):
    """Keeps the connections of one backend for one ident, and leases them out.

    A manager is open until C{drain} or C{close} is called, or until it closes itself because it is
    not used. A closed manager never opens again. It gives each C{Lease} a private I{settle}
    callable, so callers do not depend on the kind of manager.
    C{kolus.testing.check_manager} checks this contract.
    """

    backend: Backend = Attribute("the backend of the connections")
    ident: Hashable = Attribute("the ident of the connections; no other ident is ever served")

    def connect(
        ident: Hashable, timeout: float | None = None, owner: Owner | None = None
    ) -> Deferred[Lease[Any]]:
        """Ask for a lease.

        Requests are served in the order of their arrival. A request that is cancelled or times out
        neither ends an attempt to connect nor loses a connection.

        @param timeout: seconds from now until the request fails; the manager's default if C{None}.
        @param owner: a Deferred, a Protocol, a Service or a task of asyncio. When it ends, the
            lease is finished, and a request that still waits is cancelled. A service that was
            stopped before it owned anything counts as one that has not started yet.
        @return: fires with a C{Lease}, at once if a connection is ready. Fails with
            C{LeaseTimeout} at the deadline; with C{ConnectFailed} if the backend cannot be reached
            and nothing else can serve the request; at once with C{PoolFull}, C{WrongIdent} or
            C{Draining}; with C{Closed} if the manager is closed or closing; with C{LeaseError} if
            C{owner} has ended, if C{owner} itself holds everything that could serve the request, or
            if this process is a forked child of the one that made the manager. Cancelling it
            removes the request from the queue.
        @raise ValueError: C{timeout} is not a number of seconds.
        @raise TypeError: C{owner} has a type that cannot be an owner.
        """

    def try_connect(ident: Hashable, owner: Owner | None = None) -> Lease[Any] | None:
        """Lease at once or not at all, without a Deferred.

        @param owner: as for C{connect}.
        @return: a lease, or C{None} if C{connect} would have had to wait.
        @raise Rejected: C{WrongIdent} or C{Draining}, as C{connect} fails.
        @raise Closed: the manager is closed or closing.
        @raise LeaseError: C{owner} has ended, or this process is a forked child of the one that
            made the manager.
        @raise TypeError: C{owner} has a type that cannot be an owner.
        """

    def status() -> Status:
        """The current numbers."""

    def explain() -> ManagerExplanation:
        """The leases, the waiters, why they wait, and the result of the last attempt to connect."""

    def pause() -> None:
        """Give no leases and make no connections until C{resume}.

        Requests wait until their deadlines. Leases stay valid, and are settled as usual. If the
        manager is paused already, or not open, nothing changes.
        """

    def resume() -> None:
        """End a pause: serve the waiters first. If the manager is not paused, nothing changes."""

    def resize(limit: int) -> None:
        """Change the limit of connections.

        A larger limit serves waiters at once. For a smaller limit, connects under way and idle
        connections are closed now, as many as needed, the oldest idle ones first. While there are
        still more connections than the limit, each that comes home is closed, whichever it is. None
        is chosen before that, so a larger limit set meanwhile keeps all that are left.

        A shared connection comes home when its last lease is settled. While there are more
        connections than the limit, new leases go only to as many as the limit allows, those with
        most leases. So the others come home.

        Managers that share the limit share the new one. Those with most connections are the first
        to close idle ones.

        @raise ValueError: C{limit} is not a whole number of at least 1.
        """

    def invalidate() -> None:
        """Replace all present connections: close idle ones now, leased ones when they are settled.

        The manager stays open, and present leases stay valid.
        """

    def drain() -> Deferred[None]:
        """Give no new leases, wait until the present ones are settled, and close.

        Requests in the queue fail with C{Draining}, and so do new ones until the manager is closed.

        @return: fires with C{None} when no connection is left. Cancelling it stops nothing.
        """

    def close(timeout: float) -> Deferred[None]:
        """Drain for at most C{timeout} seconds, then abort the connections that are still open.

        New requests and those in the queue fail with C{Closed}. Calling it again is allowed, and
        may shorten the time.

        @return: fires with C{None} when no connection is left. Cancelling it stops nothing.
        @raise ValueError: C{timeout} is not a number of seconds.
        """

    def when_closed() -> Deferred[None]:
        """Wait until the manager is closed.

        @return: fires with C{None} when the manager is closed, for whatever reason. Cancelling it
            changes nothing.
        """


class IGivesFresh(Interface):
    """What a manager provides besides C{IKolusManager} if it can give fresh connections, too.

    This is optional. C{pool.connect(..., fresh=True)} raises C{TypeError} for a manager that does
    not provide it. C{ConnectionManager} and C{SharedManager} provide it.

    A connection is fresh for a request if it was never leased before the request was made. Requests
    for fresh connections wait with the others, in the order of arrival, but what was leased before
    is given to a later request that takes it. If the limit leaves no room for a fresh connection,
    one that was leased before makes way as soon as such a request is the oldest: it is closed
    instead of becoming idle.
    """

    def connect(
        ident: Hashable,
        timeout: float | None = None,
        owner: Owner | None = None,
        fresh: bool = False,
    ) -> Deferred[Lease[Any]]:
        """As C{IKolusManager.connect}.

        @param fresh: whether the connection must be fresh.
        """

    def try_connect(
        ident: Hashable, owner: Owner | None = None, fresh: bool = False
    ) -> Lease[Any] | None:
        """As C{IKolusManager.try_connect}. No connection makes way.

        @param fresh: as for C{connect}.
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
    deadlocks: Any = Attribute("finds requests whose owners hold all that can be leased here")

    def serves() -> bool:
        """Whether it gives leases now."""

    def has_idle() -> bool:
        """Whether something may be ready to be leased."""

    def connections_changed() -> None:
        """See again who can be served."""


class ISlots(Interface):
    """A protocol that knows how many leases can share its connection at a time.

    It may have learnt the number from its peer, for example. A protocol that does not provide this
    interface carries as many leases as the policy's C{slots} says. A new connection with 0 slots
    counts as one that is being made: after 1.5 s, another is made beside it for those who wait.

    A protocol that stays registered as a producer with its transport while it has nothing to do
    cannot be pooled: the pool would take it for a producer that a lessee left behind.
    """

    slots: int = Attribute("most leases at a time now; 0 for none until the number changes")

    def watch_slots(changed: Callable[[], object]) -> None:
        """The manager calls this once, when the protocol has been made.

        @param changed: call it whenever C{slots} changes. A smaller number does not affect present
            leases: no new ones are given until enough are settled.
        """


class ISource(Interface):
    """Gives a group its list of backends, and a new list whenever it changes.

    A list is always complete: a list or tuple of at least one C{Backend}, without duplicates. It
    must not contain strings, pairs or endpoints instead of C{Backend}, and must not be an iterator.
    The group keeps the list, so it must not be modified later. An invalid list is refused, and the
    last one stays.

    A backend stays in the group if an equal C{Backend} is in the new list; its limit, weight, name
    and zone may differ. For an endpoint object use the same C{Backend} each time. Otherwise the
    backend counts as new: the old one is drained, and new connections are made.
    """

    def start(listener: Callable[[Sequence[Backend]], object]) -> None:
        """Start. It is a plain function: nobody waits for what it returns.

        @param listener: call it with the list, in the reactor's thread: within C{start} if the
            backends are known, and again whenever the list or a field of a backend changes. Do not
            call it if the backends cannot be found out: the last list then stays. The listener may
            call C{stop}. It raises C{TypeError} if the argument is not a sequence of C{Backend},
            and C{ValueError} if the list is empty or has duplicates. If it raises, it has not
            accepted the list.
        """

    def stop() -> None:
        """Stop: do not call the listener again, and leave no timer, open file or query behind.

        The source may be started again. Stopping it twice, or before the start, has no effect.
        """
