"""What the user of a pool waits for or has: requests, blocks, calls of C{warm}, what was detached.

The ledger keeps these.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kolus import Backend, Lease

__all__ = ["Block", "Detached", "Request", "Wish", "may_serve"]

Manager = Any


class Request:
    """One request for a lease.

    @ivar number: its place among all requests and first leases of connections.
    @ivar fired: how often its Deferred has fired.
    @ivar ahead: the requests that waited when it was made.
    @ivar then: the action when the lease comes; C{"ask"} is done also if the request fails.
    @ivar fresh: whether it wants a connection that was never leased before it.
    @ivar anywhere: whether it waits for several backends at once.
    @ivar exclude: the backends that must not serve it.
    """

    def __init__(
        self,
        number: int,
        ident: Hashable,
        backend: Backend,
        then: str,
        ahead: list[Request],
        fresh: bool,
    ) -> None:
        self.number = number
        self.ident = ident
        self.backend = backend
        self.owner: Any = None
        self.then = then
        self.ahead = ahead
        self.fresh = fresh
        self.fired = 0
        self.deferred: Deferred[Any] | None = None
        self.manager: Manager = None
        self.anywhere = False
        self.exclude: list[Backend] = []


def may_serve(manager: Manager, request: Request, *, reused: bool) -> bool:
    """Whether a manager could serve a request that waits.

    @param reused: whether with a connection that was leased before.
    """
    asked = request.deferred
    if request.fresh and reused:
        return False
    if asked in manager.waiting or asked in manager.placements.waiters:
        return True
    queues = [each for each in manager.groups if each.may_serve(manager.backend)]
    return any(asked in each.waiting for each in queues)


class Block:
    """A block that is entered by C{async with pool.connect(...) as lease}.

    @ivar lease: the lease, if it has come.
    """

    def __init__(
        self,
        asked: Any,
        served: Callable[[Lease[Any]], object],
        failed: Callable[[Failure], object],
    ) -> None:
        """
        @param failed: called with the error of the request, or any other that is not the block's.
        """
        self.lease: Lease[Any] | None = None
        self._served = served
        self._failed = failed
        self._gate: Deferred[None] = Deferred()
        self._running = Deferred.fromCoroutine(self._run(asked))
        self._running.addErrback(self._ended)

    async def _run(self, asked: Any) -> None:
        async with asked as lease:
            self.lease = lease
            self._served(lease)
            await self._gate

    def _ended(self, failure: Failure) -> None:
        if self.lease is None or not failure.check(ZeroDivisionError, CancelledError):
            self._failed(failure)

    def end(self, how: str) -> None:
        if self.lease is None or how == "is cancelled":
            self._running.cancel()
        elif how == "raises":
            self._gate.errback(ZeroDivisionError())
        else:
            self._gate.callback(None)
        assert self._running.called, "a block does not end"
        assert self.lease is None or not self.lease.held


class Wish:
    """A call of C{warm}.

    @ivar told: what it returned.
    """

    def __init__(self, told: Deferred[None], done: Callable[[], object]) -> None:
        """
        @param done: called when it has succeeded.
        """
        self.told = told
        self.fired = 0
        self._done = done
        told.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, _: None) -> None:
        self.fired += 1
        self._done()

    def _failed(self, _: Failure) -> None:
        self.fired += 1

    def waits(self) -> bool:
        return not self.fired


class Detached:
    """A connection that has left the pool.

    @ivar keeps_slot: whether it counts against the limits until it ends.
    """

    def __init__(self, backend: Backend, protocol: Any, keeps_slot: bool) -> None:
        self.backend = backend
        self.protocol = protocol
        self.keeps_slot = keeps_slot

    @property
    def is_open(self) -> bool:
        return bool(self.protocol.transport.connected)
