"""Servers for the clients' tests."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from kolus import Policy
from kolus.clients.http import HTTPPool
from tests.clients.http_servers import Counting, Scripted
from tests.clients.postgres_servers import PgBouncer, Postgres, binary_folder, make_cluster
from tests.conftest import require
from tests.net import servers
from tests.net.conftest import PATIENT, patient
from tests.net.servers import Server, free_port


@pytest.fixture(scope="session")
def postgres_binaries() -> str:
    folder = binary_folder()
    require("postgres" if folder is None else f"{folder}/postgres", "postgresql")
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def folder_for_all() -> Iterator[Path]:
    """A folder that other users may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="kolus") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def cluster(postgres_binaries: str, folder_for_all: Path) -> Path:
    """The folder of a cluster, which one server at a time may use."""
    make_cluster(postgres_binaries, folder_for_all / "postgres")
    return folder_for_all / "postgres"


@pytest_twisted.async_yield_fixture
async def postgres(postgres_binaries: str, cluster: Path) -> AsyncIterator[Postgres]:
    """A PostgreSQL server that accepts connections."""
    from twisted.internet import reactor

    server = Postgres(reactor, postgres_binaries, cluster)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def pgbouncer_binary() -> str:
    return require("pgbouncer", "pgbouncer")


@pytest_twisted.async_yield_fixture
async def pgbouncer(
    pgbouncer_binary: str, postgres: Postgres, folder_for_all: Path
) -> AsyncIterator[PgBouncer]:
    """A pgbouncer in front of the server."""
    from twisted.internet import reactor

    server = PgBouncer(reactor, pgbouncer_binary, folder_for_all / "pgbouncer", postgres)
    await server.start()
    yield server
    await server.kill()


@pytest_twisted.async_yield_fixture
async def make_postgres_pool(postgres: Postgres) -> AsyncIterator[Callable[..., Any]]:
    """Makes pools of the server: C{make_postgres_pool(autocommit=True, limit=3, ...)}."""
    from twisted.internet import reactor

    from kolus.clients.postgres import PostgresPool

    pools: list[PostgresPool] = []

    def make(conninfo: str | None = None, policy: Policy | None = None, **options: Any) -> Any:
        policy = patient(policy or Policy(limit=4))
        pool = PostgresPool(reactor, conninfo or postgres.conninfo, policy=policy, **options)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close(0)


@pytest_twisted.async_yield_fixture
async def redis(tmp_path: Path) -> AsyncIterator[Server]:
    """A redis-server that accepts connections."""
    from twisted.internet import reactor

    server = servers.redis(reactor, require("redis-server", "redis-server"), tmp_path)
    await server.start()
    yield server
    await server.kill()


@pytest_twisted.async_yield_fixture
async def make_redis(redis: Server) -> AsyncIterator[Callable[..., Any]]:
    """Makes pools of the server: C{make_redis(policy, password=..., ...)}."""
    from twisted.internet import reactor

    from kolus.clients.redis import RedisPool

    pools: list[RedisPool] = []

    def make(policy: Policy | None = None, **options: Any) -> Any:
        policy = patient(policy or Policy(slots=10, limit=3))
        pools.append(RedisPool(reactor, redis.endpoint, policy=policy, **options))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close(0)


class Nginx(Server):
    """An nginx that serves one page, and logs the number of the connection of each request."""

    def __init__(self, reactor: Any, binary: str, folder: Path) -> None:
        port = free_port()
        self.log = folder / "access.log"
        settings = folder / "nginx.conf"
        settings.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr notice;\n"
            "events { worker_connections 2000; }\n"
            "http {\n"
            "  log_format connections '$connection $status';\n"
            f"  access_log {self.log} connections;\n"
            f"  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
            f"  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n"
            f"  scgi_temp_path {folder}/scgi; keepalive_requests 100000; keepalive_timeout 1h;\n"
            f"  server {{ listen 127.0.0.1:{port} backlog=2000;\n"
            "    location / { return 200 'a page'; }\n"
            "    location /short { client_max_body_size 1k; return 200 'a page'; } }\n"
            "}\n"
        )
        command = [binary, "-c", str(settings), "-e", "stderr"]
        super().__init__(reactor, command, folder, port, b"start worker process")
        self.url = b"http://127.0.0.1:%d/" % port

    def connections(self) -> list[str]:
        """The number of the connection of each request that was answered with 200."""
        return [line.split()[0] for line in self.log.read_text().splitlines() if " 200" in line]


@pytest.fixture
def nginx_binary() -> str:
    return require("nginx", "nginx-light")


@pytest_twisted.async_yield_fixture
async def nginx(nginx_binary: str, tmp_path: Path) -> AsyncIterator[Nginx]:
    """An nginx that accepts connections."""
    from twisted.internet import reactor

    server = Nginx(reactor, nginx_binary, tmp_path)
    await server.start()
    yield server
    await server.terminate()


@pytest_twisted.async_yield_fixture
async def make_server() -> AsyncIterator[Callable[..., Any]]:
    """Makes servers: C{make_server()} of pages, C{make_server([answer, ...])} by a script."""
    from twisted.internet import reactor

    ports: list[Any] = []

    def make(script: list[bytes | None] | None = None) -> Any:
        factory: Any = Counting()
        if script is not None:
            factory = Factory.forProtocol(Scripted)
            factory.script, factory.requests, factory.connected = script, [], []
        port = reactor.listenTCP(0, factory, backlog=500)
        ports.append(port)
        factory.url = b"http://127.0.0.1:%d" % port.getHost().port
        return factory

    yield make
    for port in ports:
        await port.stopListening()


@pytest_twisted.async_yield_fixture
async def make_http_pool() -> AsyncIterator[Callable[..., HTTPPool]]:
    from twisted.internet import reactor

    pools: list[HTTPPool] = []

    def make(
        body_timeout: float | None = 60.0, over_all: int | None = None, **options: Any
    ) -> HTTPPool:
        policy = Policy(**{"leak_after": None, "limit": 2} | PATIENT | options)
        pool = HTTPPool(reactor, policy=policy, limit=over_all, body_timeout=body_timeout)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close(0)
    await deferLater(reactor, 0)
    assert not any(each.pool.counters().forgotten for each in pools), "a lease was not settled"
