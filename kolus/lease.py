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
from kolus.support import check_seconds

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.interfaces import IKolusManager

__all__ = ["FAILED", "FINISHED", "FORGOTTEN", "RELEASED", "Leasable", "Lease", "Outcome", "Settle"]

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class Outcome(Enum):
    """How a lease was settled."""

    RELEASED = "released"
    FINISHED = "finished"
    FAILED = "failed"
    """Finished, because the backend failed."""
    FORGOTTEN = "forgotten"


RELEASED, FINISHED, FAILED, FORGOTTEN = Outcome


class Leasable(Protocol[P_co]):
    """What a manager keeps behind a lease: a connection, or a slot on one."""

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
    the end of the block releases it, an exception finishes it, and settling it inside the block is
    allowed. A lease that was not settled, and that nothing refers to any more, is finished, counted
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
        producer registered, wrote more than its peer takes now, or if something came that you have
        not read, this counts as C{finished}. (Of what came less than 0.1 ms after you leased it,
        the pool knows nothing.)

        @raise LeaseError: the lease was settled before.
        """
        settle = self._settle
        if settle is None:
            raise LeaseError(f"{self!r} was settled before")
        self._settle = None
        settle(self._connection, RELEASED)

    def finished(self, *, failed: bool = False) -> None:
        """Return the connection to be closed and not used again.

        @param failed: whether the backend failed. Several such leases in a row eject the backend,
            so that others are chosen.
        @raise LeaseError: the lease was settled before.
        """
        settle = self._settle
        if settle is None:
            raise LeaseError(f"{self!r} was settled before")
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

    def end(self) -> None:
        """Finish it because its owner has ended. Later errors of this lease say so."""
        self._end = "finished by the end of its owner"
        self.finished()

    async def __aenter__(self) -> Lease[P]:
        self._held_connection()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.held:
            return
        if error is None:
            self.release()
        else:
            self.finished()

    def __del__(self) -> None:
        if self._settle is not None:
            self._settle(self._connection, FORGOTTEN)

    def __repr__(self) -> str:
        state = "held" if self.held else getattr(self, "_end", "settled")
        return f"<Lease of {self.backend} for {self.ident!r}, {state}>"
