"""C{twistd kolus --name-server}: a child process that asks a dnsmasq for a redis-server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.net import name_servers
from tests.net.child import LISTEN, twistd
from tests.net.name_servers import NAME, SERVICE
from tests.net.servers import Server, free_port
from tests.net.tunnel_peers import connected

pytestmark = pytest.mark.long

LOCAL = "_redis._tcp.local.test"
WAIT = "--wait=30"


@pytest_twisted.async_yield_fixture
async def dnsmasq(dnsmasq_binary: str, redis: Server, tmp_path: Path) -> AsyncIterator[Server]:
    """One that tells where the redis-server is, which the machine's own name servers do not."""
    records = [
        f"--address=/{NAME}/127.0.0.1",
        f"--srv-host={SERVICE},{NAME},{redis.port},10,60",
        f"--srv-host={LOCAL},localhost,{redis.port},10,60",
        f"--srv-host={SERVICE},nowhere.test,{redis.port},20,60",
    ]
    server = name_servers.dnsmasq(reactor, dnsmasq_binary, tmp_path, records)
    await server.start()
    yield server
    await server.kill()


async def assert_reaches_redis(backends: str, *ports: int) -> None:
    """A client's PING comes back as a PONG through a front that asks the name servers there."""
    servers = [f"--name-server=127.0.0.1:{port}" for port in ports]
    async with (
        twistd(reactor, backends, *servers, *LISTEN, WAIT) as child,
        connected(reactor, await child.port()) as client,
    ):
        client.send(b"PING\r\n")
        await client.has(len(b"+PONG\r\n"))
        assert bytes(client.got) == b"+PONG\r\n"


@pytest_twisted.ensureDeferred
async def test_services_at_a_host_that_the_name_server_alone_knows_serve(dnsmasq: Server) -> None:
    await assert_reaches_redis(f"--source=srv:{SERVICE}", dnsmasq.port)


@pytest_twisted.ensureDeferred
async def test_services_at_a_host_that_the_machine_alone_knows_serve(dnsmasq: Server) -> None:
    await assert_reaches_redis(f"--source=srv:{LOCAL}", dnsmasq.port)


@pytest_twisted.ensureDeferred
async def test_a_backend_whose_host_the_name_server_alone_knows_serves(
    dnsmasq: Server, redis: Server
) -> None:
    await assert_reaches_redis(f"--backend=tcp:{NAME}:{redis.port}", dnsmasq.port)


@pytest_twisted.ensureDeferred
async def test_the_addresses_of_a_name_serve(dnsmasq: Server, redis: Server) -> None:
    await assert_reaches_redis(f"--source=dns:{NAME}:{redis.port}", dnsmasq.port)


@pytest_twisted.ensureDeferred
async def test_a_name_server_is_asked_when_those_before_it_do_not_answer(dnsmasq: Server) -> None:
    await assert_reaches_redis(f"--source=srv:{SERVICE}", free_port(), dnsmasq.port)


@pytest_twisted.ensureDeferred
async def test_what_can_be_no_name_server_ends_it_before_anything_listens() -> None:
    source = ("--source", f"srv:{SERVICE}")
    async with twistd(reactor, *source, "--name-server=dns.test", *LISTEN) as child:
        assert await child.ended() == 1
        assert "not a name server: 'dns.test'; expected its address" in child.lines[-1]
        assert "starting up" not in child.output
