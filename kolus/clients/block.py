"""C{Block}: a lease for a block, in which its protocol is used."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred

from kolus.lease import Lease
from kolus.support import InBlock

__all__ = ["Block"]


class Block(InBlock):
    """An asynchronous context manager, to be used once.

    It is not made from a generator: those of C{contextlib} cost as much as the lease.
    """

    __slots__ = ("_ask", "_lease")

    usage = "async with pool.connection() as connection:"
    _lease: Lease[Any]

    def __init__(self, ask: Callable[[], Deferred[Lease[Any]]]) -> None:
        """
        @param ask: asks for the lease.
        """
        self._ask: Callable[[], Deferred[Lease[Any]]] | None = ask

    def leased(self) -> Deferred[Lease[Any]]:
        """Ask for the lease.

        @raise RuntimeError: that was done before. A second lease would take the place of the first.
        """
        ask, self._ask = self._ask, None
        if ask is None:
            raise self.entered_again()
        return ask()

    async def __aenter__(self) -> Any:
        self._lease = await self.leased()
        return self._lease.protocol

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._lease.__aexit__(kind, error, traceback)
