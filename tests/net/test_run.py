"""C{pool.run} over sockets: a backend that ends a connection when the next request comes on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from kolus import Backend, Pool
from tests.net.asking import until
from tests.net.peers import Asker
from tests.rigs.patience import PATIENCE

MakePool = Callable[..., Pool[Any]]
OPEN: set[Protocol] = set()


class Tired(Protocol):
    """Echoes the first request of each connection, and ends the connection at the second."""

    served = 0

    def connectionMade(self) -> None:
        OPEN.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        OPEN.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self.served += 1
        assert self.transport is not None
        if self.served > 1:
            self.transport.abortConnection()  # type: ignore[attr-defined]
        else:
            self.transport.write(data)


@pytest_twisted.async_yield_fixture
async def tired() -> AsyncIterator[Backend]:
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(Tired)
    )
    yield Backend(("127.0.0.1", port.getHost().port))
    await port.stopListening()
    await until(reactor, lambda: not OPEN)


async def ask(protocol: Asker) -> bytes:
    answer: bytes = await protocol.ask(b"hello")
    return answer


@pytest.mark.parametrize("limit", [1, 3])
@pytest_twisted.ensureDeferred
async def test_what_a_reused_connection_lost_is_repeated_on_a_fresh_one(
    make_pool: MakePool, tired: Backend, limit: int
) -> None:
    pool = make_pool(Asker, limit=limit)
    await pool.warm(tired, limit, PATIENCE, ident="us")
    for _ in range(6):
        assert await pool.run("us", tired, ask, idempotent=True) == b"hello"
    assert pool.counters().leases > 6
    await pool.close(0)


@pytest_twisted.ensureDeferred
async def test_without_a_word_that_it_may_be_repeated_it_fails(
    make_pool: MakePool, tired: Backend
) -> None:
    pool = make_pool(Asker, limit=1)
    assert await pool.run("us", tired, ask) == b"hello"
    with pytest.raises(Exception, match=r"lost|closed|aborted"):
        await pool.run("us", tired, ask)
    await pool.close(0)
