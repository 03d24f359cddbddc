"""A primary and its standby: which of them a role chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from kolus import ConnectFailed
from tests.clients.postgres_servers import Postgres, make_standby
from tests.clients.test_postgres import ask, start
from tests.net.asking import until

pytestmark = pytest.mark.long

MakePool = Callable[..., Any]
IS_STANDBY = "select pg_is_in_recovery()"


@pytest_twisted.async_yield_fixture
async def standby(
    postgres_binaries: str, postgres: Postgres, tmp_path_factory: Any, folder_for_all: Path
) -> AsyncIterator[Postgres]:
    folder = folder_for_all / tmp_path_factory.mktemp("standby").name
    server = make_standby(reactor, postgres_binaries, folder, postgres)
    await server.start()
    yield server
    await server.stop()


def both(primary: Postgres, standby: Postgres, more: str) -> str:
    return (
        f"host=127.0.0.1,127.0.0.1 port={primary.port},{standby.port} user=postgres "
        f"password=secret {more}"
    )


async def roles(pool: Any, count: int) -> list[bool]:
    return await gatherResults([start(ask(pool, IS_STANDBY)) for _ in range(count)])


@pytest_twisted.ensureDeferred
async def test_a_role_chooses_among_a_primary_and_its_standby(
    make_postgres_pool: MakePool, postgres: Postgres, standby: Postgres
) -> None:
    for role, is_standby in (
        ("standby", True),
        ("read-only", True),
        ("primary", False),
        ("read-write", False),
    ):
        pool = make_postgres_pool(both(postgres, standby, f"target_session_attrs={role}"))
        assert await roles(pool, 6) == [is_standby] * 6, role


@pytest_twisted.ensureDeferred
async def test_a_standby_is_preferred_and_the_primary_serves_while_it_is_away(
    make_postgres_pool: MakePool,
    postgres: Postgres,
    standby: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A connect that is slow, on a busy machine, would let the primary serve.
    monkeypatch.setattr("kolus.manager.connections.connections.SLOW_CONNECT", 60.0)
    pool = make_postgres_pool(both(postgres, standby, "target_session_attrs=prefer-standby"))
    await ask(pool, IS_STANDBY)  # whoever is first: now its role is known
    for _ in range(5):
        assert await ask(pool, IS_STANDBY)
    assert all(await roles(pool, 3))
    await standby.stop()
    await until(reactor, lambda: pool.status()[1].idle == 0)
    for _ in range(5):
        assert not await ask(pool, IS_STANDBY)
    await standby.start()
    await until(reactor, lambda: pool.status()[1].takes_requests)
    while not await ask(pool, IS_STANDBY):
        await deferLater(reactor, 0.01)
    assert await ask(pool, IS_STANDBY)


@pytest_twisted.ensureDeferred
async def test_what_a_standby_refuses_costs_no_connection(
    make_postgres_pool: MakePool, postgres: Postgres, standby: Postgres
) -> None:
    pool = make_postgres_pool(standby.conninfo)
    for _ in range(3):
        with pytest.raises(Exception, match="read-only transaction"):
            await ask(pool, "create table never (i int)")
    assert await ask(pool, IS_STANDBY)
    assert pool.pool.counters().connects == 1
    wants_primary = make_postgres_pool(f"{standby.conninfo} target_session_attrs=primary")
    with pytest.raises(ConnectFailed, match="hot standby"):
        await ask(wants_primary, "select 1")
