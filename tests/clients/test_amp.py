"""C{kolus.clients.amp} with a real server of Twisted's AMP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.amp import AMP, Command, Integer, ProtocolSwitchCommand, StartTLS

from kolus import Policy
from kolus.clients.amp import AMPPool
from tests.net.asking import until


class Divide(Command):
    arguments: ClassVar = [(b"a", Integer()), (b"b", Integer())]
    response: ClassVar = [(b"result", Integer())]
    errors: ClassVar = {ZeroDivisionError: b"ZERO"}


class Tell(Command):
    arguments: ClassVar = [(b"a", Integer())]
    requiresAnswer = False


class Hang(Command):
    pass


class Server(AMP):
    made: ClassVar[list[Server]] = []
    told: ClassVar[list[int]] = []
    hung: ClassVar[list[Server]] = []

    def connectionMade(self) -> None:
        self.made.append(self)

    @Divide.responder
    def divide(self, a: int, b: int) -> Deferred[dict[str, int]]:
        return deferLater(reactor, 0.001, lambda: {"result": a // b})

    @Tell.responder
    def tell(self, a: int) -> dict[str, int]:
        self.told.append(a)
        return {}

    @Hang.responder
    def hang(self) -> Deferred[Any]:
        self.hung.append(self)
        return Deferred()


@pytest_twisted.async_yield_fixture
async def calls() -> AsyncIterator[AMPPool]:
    Server.made.clear()
    Server.told.clear()
    Server.hung.clear()
    ports = [
        reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1") for _ in range(2)
    ]
    backends = [("127.0.0.1", port.getHost().port) for port in ports]
    pool = AMPPool(reactor, backends, policy=Policy(slots=50, limit=2))
    yield pool
    await pool.close(0)
    for port in ports:
        await port.stopListening()
    await until(
        reactor,
        lambda: all(each.transport is None or not each.transport.connected for each in Server.made),
    )


@pytest_twisted.ensureDeferred
async def test_many_calls_share_few_connections(calls: AMPPool) -> None:
    asked = [calls.callRemote(Divide, a=number, b=1) for number in range(500)]
    assert [each["result"] for each in await gatherResults(asked)] == list(range(500))
    assert len(Server.made) <= 4
    assert sum(status.leased for status in calls.status()) == 0


@pytest_twisted.ensureDeferred
async def test_an_error_of_the_application_costs_no_connection(calls: AMPPool) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await calls.callRemote(Divide, a=1, b=0)
    assert calls.pool.counters().closes == 0
    assert calls.pool.counters().finishes == 0


@pytest_twisted.ensureDeferred
async def test_a_call_without_an_answer_ends_when_it_is_written(calls: AMPPool) -> None:
    await calls.callRemote(Tell, a=7)
    await until(reactor, lambda: Server.told == [7])
    assert sum(status.leased for status in calls.status()) == 0


@pytest_twisted.ensureDeferred
async def test_a_connection_that_ends_fails_its_calls_alone(calls: AMPPool) -> None:
    hangs = calls.callRemote(Hang)
    await until(reactor, lambda: Server.hung)
    for each in Server.made:
        each.transport.abortConnection()
    with pytest.raises((ConnectionLost, ConnectionDone)):
        await hangs
    assert (await calls.callRemote(Divide, a=6, b=2))["result"] == 3


@pytest_twisted.ensureDeferred
async def test_a_command_that_switches_the_protocol_is_refused(calls: AMPPool) -> None:
    class Switch(ProtocolSwitchCommand):
        pass

    with pytest.raises(TypeError, match="Switch switches the protocol"):
        calls.callRemote(Switch)
    with pytest.raises(TypeError, match="StartTLS changes a connection that others share"):
        calls.callRemote(StartTLS)
    with pytest.raises(TypeError, match="must be a subclass of Command, not 'Sum'"):
        calls.callRemote("Sum", a=1, b=2)
    with pytest.raises(ValueError, match="slots=100"):
        AMPPool(reactor, [("127.0.0.1", 1)], policy=Policy())
