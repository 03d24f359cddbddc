"""Leases for tasks of asyncio, under Twisted's asyncio reactor.

A task cannot await a Deferred. These functions wait for one in its place, and lose no lease, in
whichever moment the task is cancelled.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kolus.lease import Lease
from kolus.support import InBlock

__all__ = ["Leasing", "connect", "lease", "wait"]

T = TypeVar("T")


def lease(pool: Any, *where: Any, **options: Any) -> Leasing:
    """A lease for a block: C{async with aio.lease(pool, ident, backend) as lease:}.

    @param pool: a C{Pool}, a C{Group}, or whatever else has C{connect}.
    @param where: what its C{connect} takes: C{ident, backend} for a pool, C{ident} for a group.
    @param options: C{timeout}, C{owner} and so on, as its C{connect} takes them.
    @return: at the end of the block the lease is settled, as by C{async with lease}.
    """
    return Leasing(pool, where, options)


async def connect(pool: Any, *where: Any, **options: Any) -> Lease[Any]:
    """Ask for a lease. If the task is cancelled, the request leaves the queue, and a lease that has
    just been given is released.

    @return: the lease, which the caller settles.
    @raise KolusError: as C{pool.connect} fails. C{LeaseTimeout} is a C{TimeoutError}.
    @raise RuntimeError: Twisted's reactor does not run on the loop of this task.
    """
    loop = _loop()
    return await _answer(loop, pool.connect(*where, **options), _return)


async def wait(what: Deferred[T] | Coroutine[Any, Any, T]) -> T:
    """Wait for any other Deferred, such as that of C{pool.close()}, or for a coroutine that awaits
    Deferreds, such as one that uses a C{PostgresPool}. If the task is cancelled, so is that.

    @raise RuntimeError: Twisted's reactor does not run on the loop of this task.
    """
    loop = _loop()
    deferred = what if isinstance(what, Deferred) else Deferred.fromCoroutine(what)
    return await _answer(loop, deferred, lambda _: None)


class Leasing(InBlock):
    """What C{lease} returns: an asynchronous context manager, to be used once."""

    usage = "async with aio.lease(...) as lease:"

    def __init__(self, pool: Any, where: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._pool = pool
        self._where = where
        self._options: dict[str, Any] | None = options
        self._lease: Lease[Any] | None = None

    async def __aenter__(self) -> Lease[Any]:
        options, self._options = self._options, None
        if options is None:
            raise self.entered_again()
        self._lease = await connect(self._pool, *self._where, **options)
        return self._lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._lease is not None
        await self._lease.__aexit__(kind, error, traceback)


def _return(lease: Lease[Any]) -> None:
    if lease.held:  # its owner may have ended in the same turn
        lease.release()


def _loop() -> asyncio.AbstractEventLoop:
    """The loop of this task, which Twisted's reactor, if there is one, has to run on."""
    loop = asyncio.get_running_loop()
    reactor = sys.modules.get("twisted.internet.reactor")
    if reactor is not None and getattr(reactor, "_asyncioEventloop", None) is not loop:
        raise RuntimeError(
            "Twisted's reactor does not run on the loop of this task. Before anything imports the "
            "reactor, write: from twisted.internet import asyncioreactor; "
            "asyncioreactor.install(); then start the task within reactor.run()"
        )
    return loop


async def _answer(
    loop: asyncio.AbstractEventLoop, deferred: Deferred[T], unclaimed: Callable[[T], object]
) -> T:
    """Wait for a Deferred.

    @param unclaimed: called with the result if the task was cancelled when it came, or before the
        task went on with it.
    """
    answer: asyncio.Future[T] = loop.create_future()
    is_wanted = True

    def fired(result: T) -> None:
        if answer.cancelled() or not is_wanted:
            unclaimed(result)
        else:
            answer.set_result(result)

    def failed(failure: Failure) -> None:
        if is_wanted and not answer.cancelled():
            assert failure.value is not None
            answer.set_exception(failure.value)

    deferred.addCallbacks(fired, failed)
    try:
        return await answer
    except (asyncio.CancelledError, GeneratorExit):  # the latter if the loop ends before the task
        is_wanted = False
        if answer.cancelled() or not answer.done():
            deferred.cancel()
        elif answer.exception() is None:
            unclaimed(answer.result())
        raise
