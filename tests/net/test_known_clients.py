"""Clients that people use, through the front of a real daemon to real servers.

Those of PostgreSQL are in C{tests/clients/test_postgres_programs.py}, beside its server.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import pytest_twisted
import trustme
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.conftest import require
from tests.net.child import LISTEN, twistd
from tests.net.programs import output_of
from tests.net.servers import Server
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long

its: Any = reactor
SIZE = 5_000_000


# Redis


@pytest.fixture
def redis_programs() -> tuple[str, str]:
    return require("redis-cli", "redis-tools"), require("redis-benchmark", "redis-tools")


@pytest_twisted.ensureDeferred
async def test_redis_cli_and_redis_benchmark(
    redis_programs: tuple[str, str], redis: Server
) -> None:
    cli, benchmark = redis_programs
    async with twistd(reactor, "--backend", redis.endpoint, *LISTEN, "--limit=25") as child:
        port = await child.port()
        commands = b"".join(b"SET key:%d %s\r\n" % (at, b"x" * at) for at in range(1, 1001))
        assert b"replies: 1000" in await output_of(its, cli, "-p", port, "--pipe", text=commands)
        assert await output_of(its, cli, "-p", port, "STRLEN", "key:1000") == b"1000\n"
        assert await output_of(its, cli, "-p", port, "DBSIZE") == b"1000\n"
        for how in (("-P", 16, "-n", 20_000), ("-k", 0, "-n", 2000)):
            said = await output_of(
                its, benchmark, "-p", port, "-c", 20, "-t", "set,get", "--csv", *how
            )
            assert b'"GET"' in said
            assert b"rror" not in said


# memcached


@pytest.fixture
def memcached_programs() -> list[str]:
    return [require(each, "libmemcached-tools") for each in ("memcping", "memccp", "memccat")]


@pytest_twisted.ensureDeferred
async def test_the_tools_of_libmemcached(
    memcached_programs: list[str], memcached: Server, tmp_path: Path
) -> None:
    ping, copy, cat = memcached_programs
    async with twistd(reactor, "--backend", memcached.endpoint, *LISTEN) as child:
        servers = f"--servers=127.0.0.1:{await child.port()}"
        await output_of(its, ping, servers)
        value = tmp_path / "value"
        value.write_bytes(b"0123456789" * 50_000)
        for protocol in ((), ("--binary",)):
            await output_of(its, copy, servers, *protocol, value)
            assert (await output_of(its, cat, servers, *protocol, "value")).startswith(
                value.read_bytes()
            )


# HTTPS


class Body(Resource):
    """Answers with the body that was posted."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        body: bytes = request.content.read()
        return body

    def render_GET(self, request: Any) -> bytes:
        return b"a page of %s\n" % request.path


@pytest.fixture
def curl() -> str:
    return require("curl", "curl")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Makes certificates; its own is in C{authority.pem}, that of localhost in C{site.pem}."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    site = made.issue_cert("localhost")
    site.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "site.pem"))
    return made


@asynccontextmanager
async def web_server(certificate: Path | None) -> AsyncIterator[int]:
    """A web server of Twisted, with or without TLS."""
    site = Site(Body())
    if certificate is None:
        port = its.listenTCP(0, site, interface="127.0.0.1")
    else:
        name = str(certificate)
        context = DefaultOpenSSLContextFactory(name, name, SSL.TLS_METHOD)
        port = its.listenSSL(0, site, context, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()


@pytest.mark.parametrize("at", ["the listener", "the backend", "both"])
@pytest_twisted.ensureDeferred
async def test_curl_over_tls_gets_its_page(
    at: str, curl: str, authority: trustme.CA, tmp_path: Path
) -> None:
    site, trusted = tmp_path / "site.pem", tmp_path / "authority.pem"
    flags = ["--limit=20"] + [f"--tls-certificates={site}"] * (at != "the backend")
    if at == "both":
        flags += [f"--backend-tls-ca={trusted}", "--backend-tls-server-name=localhost"]
    async with (
        web_server(None if at == "the listener" else site) as web,
        twistd(reactor, "--backend", f"tcp:127.0.0.1:{web}", *LISTEN, *flags) as child,
    ):
        url = f"https://localhost:{await child.port()}"
        command = [curl, "-sS", "--fail", "--cacert", trusted, "--max-time", 30, "-4"]
        command += ["--noproxy", "*"]
        pages = await output_of(its, *command, f"{url}/one", f"{url}/two", "-w", "%{num_connects} ")
        assert pages == b"a page of /one\n1 a page of /two\n0 "
        body = bytes(range(250)) * (SIZE // 250)
        post = ["--data-binary", "@-", "-H", "Expect:", f"{url}/body"]
        assert await output_of(its, *command, *post, text=body) == body
        several = ["--parallel", *(f"{url}/{at}" for at in range(20))]
        assert (await output_of(its, *command, *several)).count(b"a page of /") == 20


# WebSocket


@contextmanager
def echoing() -> Iterator[int]:
    """A WebSocket server in a thread, which sends back each message."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest_twisted.ensureDeferred
async def test_a_websocket_works_through_the_front(
    scheme: str, authority: trustme.CA, tmp_path: Path
) -> None:
    context = None
    flags: list[str] = []
    if scheme == "wss":
        context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        flags = [f"--tls-certificates={tmp_path}/site.pem"]

    def talk(port: int) -> int | None:
        url = f"{scheme}://localhost:{port}"
        with connect(url, ssl=context, proxy=None, max_size=None) as socket:
            for message in ("hello", b"\x00" * SIZE, "wörld " * 1000):
                socket.send(message)
                assert socket.recv(timeout=PATIENCE) == message
            assert socket.ping().wait(PATIENCE)
            socket.close(1000)
            return socket.protocol.close_code

    with echoing() as web:
        async with twistd(reactor, f"--backend=tcp:127.0.0.1:{web}", *LISTEN, *flags) as child:
            assert await deferToThread(talk, await child.port()) == 1000
