"""A listener's limits of its clients, on real sockets that come all at once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater

from kolus import Policy, Pool
from kolus.daemon.front_service import FrontService
from kolus.tunnel import End, Front, ListenerSettings, loop_of
from tests.net.tunnel_peers import LOOPBACK, backend, until
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long

CLIENTS = 12


@asynccontextmanager
async def front(**settings: Any) -> AsyncIterator[tuple[Front, int]]:
    async with backend(reactor) as echoes:
        pool = Pool(reactor, End, policy=Policy(limit=CLIENTS))
        its = Front(
            reactor,  # type: ignore[arg-type]
            lambda ident: pool.connect(ident, echoes.endpoint),
            settings=ListenerSettings(**settings),
            loop=loop_of(reactor),
        )
        service = FrontService(its, [(LOOPBACK, serverFromString(reactor, LOOPBACK))], grace=0)
        service.startService()
        try:
            yield its, service.ports[0].getHost().port
        finally:
            await service.stopService()
            await pool.close(0)


@contextmanager
def clients(port: int) -> Iterator[list[socket.socket]]:
    """Clients that the kernel has queued before the front has its turn."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            for _ in range(CLIENTS)
        ]


@pytest_twisted.ensureDeferred
async def test_of_many_that_come_at_once_no_more_are_accepted_than_may_be_here() -> None:
    async with front(max_clients=3) as (its, port):
        with clients(port) as connected:
            for left in range(CLIENTS, 3, -1):
                await until(reactor, lambda: its.limits.clients == 3)
                await deferLater(reactor, 0.01)  # type: ignore[arg-type]
                assert its.limits.clients == 3
                assert its.served == CLIENTS - left
                connected.pop(0).close()
                await until(reactor, lambda left=left: its.served == CLIENTS - left + 1)  # type: ignore[misc]


@pytest_twisted.ensureDeferred
async def test_of_many_that_come_at_once_so_many_are_accepted_in_a_second() -> None:
    async with front(max_new_clients=4) as (its, port):
        with clients(port):
            began = reactor.seconds()  # type: ignore[attr-defined]
            await until(reactor, lambda: its.limits.clients >= 4)
            await until(reactor, lambda: its.limits.clients == CLIENTS)
            took = reactor.seconds() - began  # type: ignore[attr-defined]
    assert took > (CLIENTS - 4) / 4 - 0.3


@pytest_twisted.ensureDeferred
async def test_of_one_address_the_others_are_closed() -> None:
    async with front(max_clients_per_address=2) as (its, port):
        with clients(port):
            reason = "max_clients_per_address"
            await until(reactor, lambda: its.refusals.counts[reason] == CLIENTS - 2)
            assert its.limits.clients == 2


@pytest_twisted.ensureDeferred
async def test_who_is_denied_is_closed_and_who_is_allowed_is_served() -> None:
    async with front(deny=("127.0.0.0/8",)) as (its, port):
        with clients(port):
            await until(reactor, lambda: its.refusals.counts["deny"] == CLIENTS)
    async with front(allow=("127.0.0.1",)) as (its, port):
        with clients(port):
            await until(reactor, lambda: its.limits.clients == CLIENTS)
