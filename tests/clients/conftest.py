"""Servers for the clients' tests."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from kolus import Policy
from tests.clients.postgres_servers import PgBouncer, Postgres, binary_folder, make_cluster
from tests.conftest import require


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
        policy = policy or Policy(limit=4)
        pool = PostgresPool(reactor, conninfo or postgres.conninfo, policy=policy, **options)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close(0)
