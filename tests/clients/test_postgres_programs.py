"""psql and pgbench through the front of a real daemon."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.clients.postgres_servers import Postgres
from tests.net.child import LISTEN, twistd
from tests.net.programs import Program, output_of

pytestmark = pytest.mark.long

its: Any = reactor


@pytest.fixture
def programs(postgres_binaries: str) -> tuple[str, str]:
    """The paths of psql and pgbench, which are beside the server."""
    return f"{postgres_binaries}/psql", f"{postgres_binaries}/pgbench"


@asynccontextmanager
async def front(postgres: Postgres, *more: str) -> AsyncIterator[str]:
    """A daemon before the server.

    @return: what its clients connect with.
    """
    async with twistd(reactor, "--backend", postgres.endpoint, *LISTEN, *more) as child:
        yield re.sub(r"port=\d+", f"port={await child.port()}", postgres.conninfo)


@pytest_twisted.ensureDeferred
async def test_psql_works_through_the_front(programs: tuple[str, str], postgres: Postgres) -> None:
    psql = [programs[0], "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"]
    async with front(postgres) as conninfo:
        assert await output_of(its, *psql, "-c", "select 6 * 7", conninfo) == b"42\n"
        rows = await output_of(
            its, *psql, "-c", "select repeat('x', 100000) from generate_series(1, 100)", conninfo
        )
        assert rows == (b"x" * 100_000 + b"\n") * 100
        values = b"".join(b"%d\n" % at for at in range(100_000))
        await output_of(
            its, *psql, "-c", "drop table if exists t; create table t (n int)", conninfo
        )
        await output_of(its, *psql, "-c", "copy t from stdin", conninfo, text=values)
        assert await output_of(its, *psql, "-c", "copy t to stdout", conninfo) == values


@pytest_twisted.ensureDeferred
async def test_psql_cancels_a_query(programs: tuple[str, str], postgres: Postgres) -> None:
    async with front(postgres) as conninfo:
        psql = [programs[0], "-X", conninfo, "-c", "select pg_sleep(50)"]
        program = Program()
        its.spawnProcess(program, psql[0], psql, env=os.environ)
        asking = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'"
        asleep = b""
        while asleep != b"1\n":
            asleep = await output_of(its, programs[0], "-XqtA", conninfo, "-c", asking)
        program.transport.signalProcess("INT")
        assert await program.ended() == 1
        assert b"canceling statement due to user request" in program.output


@pytest_twisted.ensureDeferred
async def test_pgbench_loses_no_transaction_through_the_front(
    programs: tuple[str, str], postgres: Postgres
) -> None:
    psql, pgbench = programs
    bench = [pgbench, "-n", "-c", 10, "-t", 50]
    async with front(postgres) as conninfo:
        await output_of(its, pgbench, "-i", "-q", conninfo)
        for how in ((), ("-M", "prepared")):
            assert b"actually processed: 500/500" in await output_of(its, *bench, *how, conninfo)
    # With a connection for each transaction, ten clients share five connections.
    async with front(postgres, "--limit=5", "--wait=30") as conninfo:
        said = await output_of(its, *bench, "-C", "-j", 10, conninfo)
        assert b"actually processed: 500/500" in said
        total = "select (select sum(abalance) from pgbench_accounts) - sum(delta), count(*)"
        said = await output_of(its, psql, "-XqtA", conninfo, "-c", f"{total} from pgbench_history")
        assert said == b"0|1500\n"
