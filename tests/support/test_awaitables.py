"""C{call}: whatever is awaitable is awaited, and what cannot be awaited is an error."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import coroutine
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from kolus.support import call
from kolus.testing import NotFired, result_of
from tests.rigs.loops import run_in_a_loop


class Awaitable:
    """An object with C{__await__}, neither a Deferred nor a coroutine."""

    def __init__(self, *steps: object, error: BaseException | None = None) -> None:
        self.steps = steps
        self.error = error

    def __await__(self) -> Generator[object, Any, object]:
        yield from self.steps
        if self.error is not None:
            raise self.error
        return "an answer"


async def answers(value: object = "an answer") -> object:
    return value


async def raises() -> None:
    raise PermissionError("wrong password")


@coroutine
def old_coroutine() -> Generator[None, None, str]:
    yield
    return "an answer"


def done_future(error: Exception | None = None) -> asyncio.Future[str]:
    """A future that was done before anybody waited; its loop never runs again."""
    loop = asyncio.new_event_loop()
    future: asyncio.Future[str] = loop.create_future()
    if error is None:
        future.set_result("an answer")
    else:
        future.set_exception(error)
    loop.close()
    return future


ANSWERS: list[Callable[[], object]] = [
    lambda: "an answer",
    lambda: succeed("an answer"),
    answers,
    Awaitable,
    lambda: Awaitable(None, None),
    old_coroutine,
    done_future,
    # What is awaited gives something to be awaited.
    lambda: succeed(answers()),
    lambda: succeed(Awaitable()),
    lambda: succeed(None).addCallback(lambda _: answers()),
    lambda: answers(answers()),
    lambda: answers(succeed("an answer")),
    lambda: answers(done_future()),
]


@pytest.mark.parametrize("action", ANSWERS)
def test_whatever_is_awaitable_is_awaited(action: Callable[[], object]) -> None:
    clock = Clock()
    asked = call(clock, action)
    clock.pump([0, 0, 0])
    assert result_of(asked) == "an answer"


def raise_it() -> None:
    raise PermissionError("wrong password")


ERRORS: list[Callable[[], object]] = [
    raise_it,
    lambda: fail(PermissionError("wrong password")),
    lambda: Failure(PermissionError("wrong password")),
    raises,
    lambda: Awaitable(error=PermissionError("wrong password")),
    lambda: Awaitable(None, error=PermissionError("wrong password")),
    lambda: Awaitable(fail(PermissionError("wrong password"))),
    lambda: done_future(PermissionError("wrong password")),
    lambda: succeed(raises()),
    lambda: answers(raises()),
    lambda: answers(fail(PermissionError("wrong password"))),
    lambda: answers(Failure(PermissionError("wrong password"))),
]


@pytest.mark.parametrize("action", ERRORS)
def test_its_error_is_the_error(action: Callable[[], object]) -> None:
    clock = Clock()
    asked = call(clock, action)
    clock.pump([0, 0])
    with pytest.raises(PermissionError, match="wrong password"):
        result_of(asked)


def a_generator() -> Iterator[None]:
    yield


async def an_async_generator() -> AsyncIterator[None]:
    yield


def a_pending_future() -> asyncio.Future[None]:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.close()
    return future


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (a_generator, "of type generator, which cannot be awaited"),
        (an_async_generator, "of type async_generator, which cannot be awaited"),
        (concurrent.futures.Future, "of type Future, which cannot be awaited"),
        (lambda: succeed(a_generator()), "of type generator, which cannot be awaited"),
        (lambda: answers(a_generator()), "of type generator, which cannot be awaited"),
        (lambda: Awaitable("a trio trap"), "of type str, which only its maker knows"),
        (a_pending_future, "a future of an event loop that does not run here"),
    ],
)
def test_what_cannot_be_awaited_is_an_error(action: Callable[[], object], why: str) -> None:
    with pytest.raises((TypeError, RuntimeError), match=why):
        result_of(call(Clock(), action))


def test_an_object_may_await_deferreds() -> None:
    first: Deferred[None] = Deferred()
    second: Deferred[None] = Deferred()
    asked = call(Clock(), lambda: Awaitable(first, second))
    first.callback(None)
    with pytest.raises(NotFired):
        result_of(asked)
    second.callback(None)
    assert result_of(asked) == "an answer"


@pytest.mark.parametrize(
    "action",
    [
        lambda waits: waits,
        Awaitable,
        answers,
        lambda waits: answers(Awaitable(waits)),
        lambda waits: succeed(answers(waits)),
    ],
)
def test_a_cancel_is_passed_on(action: Callable[[Deferred[None]], object]) -> None:
    cancelled = []
    asked = call(Clock(), action, Deferred(cancelled.append))
    asked.cancel()
    assert len(cancelled) == 1
    with pytest.raises(CancelledError):
        result_of(asked)


def test_a_turn_that_is_waited_for_is_cancelled() -> None:
    clock = Clock()
    asked = call(clock, lambda: Awaitable(None))
    asked.cancel()
    assert not clock.getDelayedCalls()
    with pytest.raises(CancelledError):
        result_of(asked)


# In an event loop of asyncio that runs


def in_loop(asks: Callable[[Clock], Deferred[object]], then: Callable[..., object]) -> object:
    """The result of a call in an event loop, after C{then} and a few turns."""

    async def run() -> Deferred[object]:
        asked = asks(Clock())
        then(asked)
        for _ in range(5):
            await asyncio.sleep(0)
        return asked

    return result_of(run_in_a_loop(run()))


async def sleeps() -> str:
    await asyncio.sleep(0.001)
    return "an answer"


async def a_turn(error: Exception | None = None) -> str:
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    if error is not None:
        raise error
    return "an answer"


@pytest.mark.parametrize("coroutine_function", [sleeps, a_turn])
@pytest.mark.parametrize("wrapped", [lambda made: made, asyncio.ensure_future, Awaitable])
def test_what_awaits_asyncio_is_awaited(
    coroutine_function: Callable[[], Any], wrapped: Callable[[Any], object]
) -> None:
    async def run() -> object:
        made = coroutine_function()
        action = wrapped if wrapped is not Awaitable else answers
        asked = call(Clock(), action, made)
        ended = asyncio.Event()
        asked.addBoth(lambda result: ended.set() or result)
        await asyncio.wait_for(ended.wait(), 5.0)
        return result_of(asked)

    assert run_in_a_loop(run()) == "an answer"


def test_a_future_gives_its_result_and_its_error() -> None:
    futures: list[asyncio.Future[str]] = []

    def ask(clock: Clock) -> Deferred[object]:
        futures.append(asyncio.get_running_loop().create_future())
        return call(clock, lambda: futures[-1])

    assert in_loop(ask, lambda _: futures[-1].set_result("an answer")) == "an answer"
    with pytest.raises(PermissionError):
        in_loop(ask, lambda _: futures[-1].set_exception(PermissionError()))
    with pytest.raises(CancelledError, match="was cancelled"):
        in_loop(ask, lambda _: futures[-1].cancel())


def test_a_task_is_cancelled() -> None:
    ends = []

    async def works() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("the task")
            raise

    async def waits(task: asyncio.Task[None]) -> None:
        try:
            await task
        except asyncio.CancelledError:
            ends.append("who waits")
            raise

    def ask(clock: Clock) -> Deferred[object]:
        return call(clock, lambda: waits(asyncio.ensure_future(works())))

    def cancel(asked: Deferred[object]) -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, asked.cancel)

    with pytest.raises(CancelledError):
        in_loop(ask, cancel)
    assert sorted(ends) == ["the task", "who waits"]
