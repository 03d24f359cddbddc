"""Rule 13: whatever a hook returns is awaited; what fails, is C{False} or cannot be awaited costs
the connection. The same holds for shared connections and for probes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.protocol import Protocol

from kolus import ConnectFailed
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.health_rigs import FIRST, Nursed
from tests.rigs.pools import Managed
from tests.rigs.sharing import Sharing


class LogIn:
    """An awaitable that is neither a Deferred nor a coroutine."""

    def __init__(self, error: Exception | None = None, result: object = None) -> None:
        self.error = error
        self.result = result

    def __await__(self) -> Generator[None, None, object]:
        yield
        if self.error is not None:
            raise self.error
        return self.result


def refused() -> Exception:
    return PermissionError("wrong password")


def refused_future() -> asyncio.Future[None]:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[None] = loop.create_future()
    future.set_exception(refused())
    loop.close()
    return future


async def refuses() -> None:
    raise refused()


def without_inline_callbacks(protocol: Protocol) -> Iterator[None]:
    yield


FAILING = [
    lambda protocol: LogIn(refused()),
    lambda protocol: refused_future(),
    lambda protocol: succeed(None).addCallback(lambda _: refuses()),
    lambda protocol: False,
    lambda protocol: succeed(False),
    lambda protocol: LogIn(result=False),
    without_inline_callbacks,
    lambda protocol: concurrent.futures.Future(),
    lambda protocol: refuses,
    lambda protocol: protocol.connectionMade,
    lambda protocol: succeed(refuses),
    lambda protocol: functools.partial(refuses),
    lambda protocol: [succeed(None), Deferred()],
    lambda protocol: (LogIn(), LogIn()),
    lambda protocol: {"name": LogIn()},
    lambda protocol: LogIn,
    lambda protocol: PermissionError,
    lambda protocol: refused(),
    lambda protocol: DeferredList([succeed(None), fail(refused())], consumeErrors=True),
    lambda protocol: LogIn(result=[None, refused()]),
    lambda protocol: fail(refused()).addErrback(lambda failure: failure.value),
]
REASON = (
    "wrong password|it returned (False|the (function|class) .*, and did not call it|"
    "a .* of awaitables)|cannot be awaited"
)


@pytest.mark.parametrize("hook", FAILING)
@pytest.mark.parametrize("make", [Managed, Sharing])
def test_a_prepare_that_does_not_succeed_is_a_failed_connect(make: Any, hook: Any) -> None:
    rig = make(prepare=hook)
    asked = rig.manager.connect("us")
    rig.clock.pump([0, 0])
    with pytest.raises(ConnectFailed, match=REASON):
        result_of(asked)
    rig.clock.pump([0, 0])
    assert not rig.fake.connections


@pytest.mark.parametrize("hook", FAILING)
@pytest.mark.parametrize("make", [Managed, Sharing])
def test_a_check_that_does_not_succeed_costs_its_connection(make: Any, hook: Any) -> None:
    rig = make(check=hook, check_after=10)
    rig.lease().release()
    rig.clock.advance(10)
    asked = rig.manager.connect("us")
    rig.clock.pump([0, 0, 0])
    assert not result_of(asked).reused
    assert not rig.fake.accepted[0].open


@pytest.mark.parametrize("hook", FAILING)
def test_a_reset_that_does_not_succeed_costs_its_connection(hook: Any) -> None:
    rig = Managed(limit=1, reset=hook)
    rig.lease().release()
    asked = rig.ask()
    rig.clock.pump([0, 0, 0])
    assert not result_of(asked).reused
    assert not rig.fake.accepted[0].open


@pytest.mark.parametrize("hook", FAILING)
def test_a_probe_that_does_not_succeed_admits_nothing(hook: Any) -> None:
    rig = Nursed(probe=hook)
    rig.fail()
    rig.clock.advance(FIRST)
    rig.clock.pump([0, 0, 0])
    assert rig.state() is State.EJECTED


@pytest.mark.parametrize("step", ["prepare", "check", "reset"])
def test_an_awaitable_that_succeeds_is_waited_for(step: str) -> None:
    rig = Managed(limit=1, check_after=0, **{step: lambda protocol: LogIn(result="welcome")})
    asked = rig.ask()
    rig.turn()
    result_of(asked).release()
    asked = rig.ask()
    rig.turn()
    assert result_of(asked).reused
