"""C{ErlangCalls}: the calls of the original in Erlang, under their names there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.interfaces import ISystemHandle

from kolus.errors import LeaseError
from kolus.lease import Lease

if TYPE_CHECKING:
    from kolus.interfaces import IKolusManager
    from kolus.manager import Managers

__all__ = ["ErlangCalls"]

P = TypeVar("P")


class ErlangCalls(Generic[P]):
    """The methods of a pool that a program in Erlang would look for."""

    _managers: Managers

    def return_(self, lease: Lease[P]) -> None:
        """The same as C{lease.release()}.

        @raise LeaseError: the lease is settled, or belongs to another pool.
        """
        self._own(lease).release()

    def finished(self, lease: Lease[P]) -> None:
        """The same as C{lease.finished()}.

        @raise LeaseError: the lease is settled, or belongs to another pool.
        """
        self._own(lease).finished()

    def get_socket(self, lease: Lease[P]) -> Any:
        """The system handle of the connection's transport: the socket of a TCP or UNIX connection.

        @raise LeaseError: the lease is settled, belongs to another pool, or has no such handle.
        """
        transport = getattr(self._own(lease).protocol, "transport", None)
        if not ISystemHandle.providedBy(transport):
            raise LeaseError(f"the connection of {lease!r} has no socket")
        return transport.getHandle()

    def get_manager(self, lease: Lease[P]) -> IKolusManager:
        """The same as C{lease.manager}.

        @raise LeaseError: the lease belongs to another pool.
        """
        return self._own(lease).manager

    def _own(self, lease: Lease[P]) -> Lease[P]:
        if not isinstance(lease, Lease):
            raise LeaseError(f"not a lease: {lease!r}")
        if lease.manager not in self._managers:
            raise LeaseError(f"{lease!r} is not of this pool")
        return lease
