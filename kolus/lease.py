"""A lease: the right to use one connection until it is settled.

Its state is the private I{settle} callable, held until the lease is settled and C{None} after;
only the lease itself changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

from kolus.errors import LeaseError
from kolus.support import check_flag, check_seconds

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.interfaces import IKolusManager

__all__ = [
    "DETACHED",
    "DETACHED_WITH_SLOT",
    "FAILED",
    "FINISHED",
    "FORGOTTEN",
    "RELEASED",
    "REVOKED",
    "Leasable",
    "Lease",
    "Outcome",
    "Settle",
]

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class Outcome(Enum):
    """How a lease was settled."""

    RELEASED = "released"
    FINISHED = "finished"
    FAILED = "failed"
    """Finished, because the backend failed."""
    FORGOTTEN = "forgotten"
    REVOKED = "revoked"
    """It was held for longer than the policy's C{hold_limit}."""
    DETACHED = "detached"
    """Its connection has left the pool."""
    DETACHED_WITH_SLOT = "detached with its slot"
    """The same, but the connection counts against the backend's limit until it ends."""


RELEASED, FINISHED, FAILED, FORGOTTEN, REVOKED, DETACHED, DETACHED_WITH_SLOT = Outcome


class Leasable(Protocol[P_co]):
    """What a manager keeps behind a lease: a connection, or a slot on one.

    Two methods are optional. C{is_clean()} tells whether nothing is under way on the connection;
    without it an exception in the lease's block finishes the lease. C{why_not_detach()} gives the
    reason why the connection cannot leave the pool now, or C{None}; without it none can.
    """

    @property
    def manager(self) -> Any: ...
    @property
    def leasable(self) -> Any:
        """Itself, or what it wraps."""

    @property
    def protocol(self) -> P_co: ...
    @property
    def reused(self) -> bool: ...
    @property
    def age(self) -> float: ...
    def when_lost(self, lease: Lease[Any]) -> Deferred[BaseException]: ...
    def observe(self, seconds: float) -> None: ...


Settle = Callable[[Any, Outcome], None]
"""Settles a lease at its manager. It is called exactly once, with the leasable.

With C{FORGOTTEN} it is called by the lease's finalizer, in any thread and in the middle of any
code. It must change nothing then, only schedule a later call.
"""


class Lease(Generic[P]):
    """The right to use one connection until it is settled.

    It is opaque: use C{lease.protocol} to read and write. It is an asynchronous context manager:
    the end of the block releases it; an exception finishes it, unless the policy's C{clean} says
    that nothing is under way; and settling it inside the block is allowed.

    A lease that was not settled, and that nothing refers to any more, is finished, counted
    as forgotten, and logged.
    """

    __slots__ = ("__weakref__", "_connection", "_end", "_settle")

    def __init__(self, connection: Leasable[P], settle: Settle) -> None:
        self._connection = connection
        self._settle: Settle | None = settle

    @property
    def protocol(self) -> P:
        """The connected protocol.

        @raise LeaseError: the lease is settled; the connection may have another lessee by now.
        """
        if self._settle is None:  # not by _held_connection: every use of a lease begins here
            raise LeaseError(f"{self!r} was asked for its connection")
        return self._connection.protocol

    @property
    def manager(self) -> IKolusManager:
        """The manager that gave the lease."""
        manager: IKolusManager = self._connection.manager
        return manager

    @property
    def backend(self) -> Backend:
        """The backend of the connection."""
        return self.manager.backend

    @property
    def ident(self) -> Hashable:
        """The ident of the connection."""
        return self.manager.ident

    @property
    def held(self) -> bool:
        """Whether the lease is not settled yet."""
        return self._settle is not None

    @property
    def leasable(self) -> object:
        """The leasable: the connection or slot that the manager keeps."""
        leasable: object = self._connection.leasable
        return leasable

    @property
    def reused(self) -> bool:
        """Whether the connection was leased before.

        @raise LeaseError: as C{protocol}.
        """
        return self._held_connection().reused

    @property
    def age(self) -> float:
        """Seconds since the connection was made.

        @raise LeaseError: as C{protocol}.
        """
        return self._held_connection().age

    def when_lost(self) -> Deferred[BaseException]:
        """Be told when the connection ends, even if no request is under way.

        @return: fires with the reason (an exception) when the connection ends while the lease is
            held; never if the lease is settled before. Cancelling it stops the watch.
        @raise LeaseError: as C{protocol}.
        """
        return self._held_connection().when_lost(self)

    def _held_connection(self) -> Leasable[P]:
        if self._settle is None:
            raise LeaseError(f"{self!r} was asked for its connection")
        return self._connection

    def release(self) -> None:
        """Return the connection for the next lessee. If it is closed or too old, it is not reused.

        Leave it as you found it, without a request under way. If you told it to close, left a
        producer registered, wrote more than its peer takes now, or if the policy's C{clean} says
        that something is under way, this counts as C{finished}. If something is left unread, it is
        closed before anybody else has it.

        @raise LeaseError: the lease was settled before.
        """
        settle = self._settle
        if settle is None:
            raise LeaseError(f"{self!r} was settled before")
        self._settle = None
        settle(self._connection, RELEASED)

    def finished(self, *, failed: bool = False) -> None:
        """Return the connection to be closed and not used again.

        @param failed: whether the backend failed. If it ended the connection before that had served
            anything, this counts as failed anyway. Several such leases in a row eject the backend,
            so that others are chosen.
        @raise LeaseError: the lease was settled before.
        @raise TypeError: C{failed} is neither true nor false; the lease is still held then.
        """
        settle = self._settle
        if settle is None:
            raise LeaseError(f"{self!r} was settled before")
        check_flag("failed", failed)
        self._settle = None
        settle(self._connection, FAILED if failed else FINISHED)

    def observe(self, seconds: float) -> None:
        """Tell balancers how long the backend took to answer. Without this call, the time from the
        lease to its release counts.

        @raise LeaseError: as C{protocol}.
        @raise ValueError: C{seconds} is negative, not a number, or infinite.
        """
        check_seconds("seconds", seconds, optional=False, endless=False)
        self._held_connection().observe(seconds)

    def detach(self, *, keep_slot: bool = False) -> P:
        """Take the connection out of the pool: from now on it is yours alone, and yours to close.

        This is for a connection that changes its protocol, for example by an HTTP C{Upgrade}. The
        lease is settled. No limit, time-out, C{invalidate}, C{drain} or C{close} concerns the
        connection any more. The protocol still gets what comes, and the loss of the connection.

        @param keep_slot: whether the connection counts against the backend's limit until it ends.
            Otherwise another may be made in its place at once.
        @return: the connected protocol; in debug mode, not the proxy for it.
        @raise LeaseError: the lease was settled before. Or the connection has ended, other leases
            share it, or its manager cannot detach; the lease is still held then.
        @raise TypeError: C{keep_slot} is neither true nor false; the lease is still held then, too.
        """
        settle = self._settle
        if settle is None:
            raise LeaseError(f"{self!r} was settled before")
        check_flag("keep_slot", keep_slot)
        leasable, manager = self._connection.leasable, self.manager
        why_not = getattr(leasable, "why_not_detach", _cannot_detach)()
        if why_not is not None:
            raise LeaseError(f"{self!r} cannot be detached: {why_not}")
        protocol: P = leasable.protocol
        self._end, self._settle = "detached", None
        settle(self._connection, DETACHED_WITH_SLOT if keep_slot else DETACHED)
        gone: Any = _Left(manager)
        self._connection = gone
        return protocol

    def end(
        self, why: str = "finished by the end of its owner", outcome: Outcome = FINISHED
    ) -> None:
        """Settle it for its holder. It must be held.

        @param why: what later errors of this lease say.
        """
        settle, self._settle = self._settle, None
        assert settle is not None
        self._end = why
        settle(self._connection, outcome)

    async def __aenter__(self) -> Lease[P]:
        self._held_connection()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._settle is None:
            return
        if error is None:
            self.release()
            return
        is_clean = getattr(self._connection.leasable, "is_clean", None)
        if is_clean is not None and is_clean():
            self.release()
        else:
            self.finished()

    def __del__(self) -> None:
        settle = self._settle
        if settle is not None:
            self._settle = None  # a block that is thrown away with it may end only now
            settle(self._connection, FORGOTTEN)

    def __repr__(self) -> str:
        state = "held" if self.held else getattr(self, "_end", "settled")
        return f"<Lease of {self.backend} for {self.ident!r}, {state}>"


def _cannot_detach() -> str:
    return "its manager cannot detach connections"


class _Left:
    """Stands for a connection that has left the pool, so that its lease refers to it no more."""

    def __init__(self, manager: object) -> None:
        self.manager: Any = manager

    @property
    def leasable(self) -> Any:
        return self
