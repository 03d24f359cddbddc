"""Calls a user's callable, and waits for what it returns, whatever kind of awaitable that is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

__all__ = ["call", "check_done", "comes_later"]


def call(clock: IReactorTime, action: Callable[..., object], *args: object) -> Deferred[object]:
    """Call C{action}, and wait for what it returns: a Deferred, a coroutine, a future or a task of
    asyncio, or any other object with C{__await__}.

    @param clock: gives the next turn to what waits for that.
    @return: fires with the result, which is neither awaitable nor a Deferred. Fails with what
        C{action} raises or what is awaited fails with, and with C{TypeError} if it returns what has
        a result only later and cannot be awaited: a generator, or a future of
        C{concurrent.futures}. A future of asyncio needs its event loop to run here, as it does in
        Twisted's C{AsyncioSelectorReactor}. Cancelling it cancels what is waited for.
    """
    try:
        returned = action(*args)
    except BaseException:  # as maybeDeferred does
        return fail()
    return _result_of(returned, clock)


def check_done(who: str, returned: object) -> None:
    """Check that a callable whose result nobody waits for has done its work.

    A Deferred and a future of asyncio go on by themselves. A coroutine, a generator or any other
    awaitable does nothing until somebody waits for it.

    @param who: what was called, for the message.
    @raise TypeError: it returned one of the latter.
    """
    if isinstance(returned, Deferred) or asyncio.isfuture(returned) or not comes_later(returned):
        return
    if inspect.iscoroutine(returned):
        returned.close()
    raise TypeError(
        f"{who} returned an object of type {type(returned).__name__}, and nobody waits for that: "
        "make it a plain function, which may begin the rest"
    )


def _result_of(returned: Any, clock: IReactorTime) -> Deferred[object]:
    if returned is None or isinstance(returned, bool):  # as of most hooks that need not wait
        return succeed(returned)
    if isinstance(returned, Deferred):
        if returned.called and not returned.paused and not comes_later(returned.result):
            return returned
        return returned.addCallback(_to_the_end, clock)
    if isinstance(returned, Failure):
        return fail(returned)
    if inspect.isawaitable(returned):
        return _drive(_await(returned), clock)
    if comes_later(returned):
        kind = type(returned).__name__
        return fail(TypeError(f"it returned an object of type {kind}, which cannot be awaited"))
    return succeed(returned)


def _to_the_end(result: Any, clock: IReactorTime) -> Any:
    """What was awaited may give something that is to be awaited in turn."""
    return _result_of(result, clock) if comes_later(result) else result


def comes_later(returned: object) -> bool:
    """Whether it is not a result yet."""
    return returned is not None and (
        isinstance(returned, Deferred)
        or inspect.isawaitable(returned)
        or inspect.isgenerator(returned)
        or inspect.isasyncgen(returned)
        or hasattr(type(returned), "add_done_callback")
    )


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


@inlineCallbacks
def _drive(steps: Any, clock: IReactorTime) -> Generator[Any, Any, object]:
    """Run a coroutine. Twisted's own runner waits for Deferreds only, and takes a future that is
    not done for a result."""
    proceed, value = steps.send, None
    while True:
        try:
            awaited = proceed(value)
        except StopIteration as end:
            result = end.value
            break
        except asyncio.CancelledError as error:
            raise CancelledError("what it waited for was cancelled") from error
        try:
            proceed, value = steps.send, (yield _as_deferred(awaited, clock))
        except GeneratorExit:
            raise
        except BaseException as error:
            was_cancelled = isinstance(error, CancelledError) and asyncio.isfuture(awaited)
            proceed, value = steps.throw, asyncio.CancelledError() if was_cancelled else error
    if comes_later(result):
        result = yield _result_of(result, clock)
    return result


def _as_deferred(awaited: Any, clock: IReactorTime) -> Deferred[object]:
    """What a coroutine waits for, as a Deferred."""
    if isinstance(awaited, Deferred):
        return awaited
    waiting: Deferred[object]
    if awaited is None:  # a turn, as asyncio.sleep(0) asks for
        waiting = Deferred(lambda _: turn.cancel())
        turn = clock.callLater(0, waiting.callback, None)
        return waiting
    if not asyncio.isfuture(awaited):
        kind = type(awaited).__name__
        return fail(TypeError(f"it waits for an object of type {kind}, which only its maker knows"))
    awaited._asyncio_future_blocking = False  # the answer that it expects from its caller
    if not _runs_here(awaited):
        return fail(RuntimeError("it waits for a future of an event loop that does not run here"))

    def done(future: Any) -> None:
        if not waiting.called:
            waiting.callback(None)  # the caller asks the future itself
        elif not future.cancelled():
            future.exception()  # asked for, so that asyncio does not log it

    def cancel(_: Deferred[object]) -> None:
        awaited.cancel()

    waiting = Deferred(cancel)
    awaited.add_done_callback(done)
    return waiting


def _runs_here(future: Any) -> bool:
    """Whether the event loop of a future runs in this thread."""
    try:
        return asyncio.get_running_loop() is future.get_loop()
    except RuntimeError:
        return False
