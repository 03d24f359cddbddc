"""Queries over pooled connections to a real PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import pytest_twisted
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from kolus import LeaseTimeout, Policy
from tests.clients.postgres_servers import PgBouncer, Postgres
from tests.net.asking import until
from tests.net.test_examples import run
from tests.rigs.patience import PATIENCE

MakePool = Callable[..., Any]


async def value_of(connection: Any, query: str, *arguments: object) -> Any:
    row = await (await connection.execute(query, arguments or None)).fetchone()
    return row[0]


async def ask(pool: Any, query: str, *arguments: object) -> Any:
    async with pool.connection() as connection:
        return await value_of(connection, query, *arguments)


def start(steps: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(steps)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_query_has_its_rows(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool()
    assert await ask(pool, "select %s::int + 1", 41) == 42
    assert pool.status()[0].idle == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_block_commits_and_one_that_raises_rolls_back(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool()
    async with pool.connection() as connection:
        await connection.execute("create temp table t (i int)")
        await connection.execute("insert into t values (1)")

    async def fail() -> None:
        async with pool.connection() as connection:
            await connection.execute("create table lost (i int)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await ask(pool, "select count(*) from pg_tables where tablename = 'lost'") == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_many_rows_go_in_and_out(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool()
    async with pool.connection() as connection, connection.cursor() as cursor:
        await cursor.execute("create temp table t (i int)")
        await cursor.executemany("insert into t values (%s)", [(i,) for i in range(1000)])
        async with cursor.copy("copy t from stdin") as copy:
            for i in range(1000, 50_000):
                await copy.write_row((i,))
        rows = 0
        async with cursor.copy("copy t to stdout") as copy:
            async for _ in copy.rows():
                rows += 1
        assert rows == 50_000
        await cursor.execute("select sum(i) from t")
        assert await cursor.fetchone() == (sum(range(50_000)),)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_rows_of_a_copy_that_have_come_are_read_without_a_deferred(
    make_postgres_pool: MakePool,
) -> None:
    made, its = [], Deferred.__init__.__code__

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code is its:
            made.append(frame)

    async with make_postgres_pool().connection() as connection, connection.cursor() as cursor:
        rows = 0
        async with cursor.copy("copy (select generate_series(1, 20000)) to stdout") as copy:
            sys.setprofile(note)
            try:
                async for _ in copy.rows():
                    rows += 1
            finally:
                sys.setprofile(None)
    assert rows == 20_000
    assert 0 < len(made) < 1000


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_pipeline_answers_in_order(make_postgres_pool: MakePool) -> None:
    async with make_postgres_pool().connection() as connection:
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", (i,)) for i in range(50)]
        assert [(await each.fetchone())[0] for each in cursors] == list(range(50))


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_callers_of_one_connection_take_turns(make_postgres_pool: MakePool) -> None:
    async with make_postgres_pool().connection() as connection:
        asked = [start(value_of(connection, "select %s::int", i)) for i in range(20)]
        assert await gatherResults(asked) == list(range(20))


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_more_callers_than_connections_wait_for_their_turn(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=3))
    asked = [start(ask(pool, "select %s::int from pg_sleep(0.01)", i)) for i in range(30)]
    assert await gatherResults(asked) == list(range(30))
    assert pool.pool.counters().connects <= 3


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_query_that_is_cancelled_ends_on_the_server_too(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=2))
    slow = start(ask(pool, "select pg_sleep(3600)"))
    running = (
        "select count(*) from pg_stat_activity where query = 'select pg_sleep(3600)' "
        "and state = 'active'"
    )
    while await ask(pool, running) == 0:
        await deferLater(reactor, 0.01)
    slow.cancel()
    with pytest.raises(CancelledError):
        await slow
    assert await ask(pool, running) == 0
    assert pool.status()[0].leased == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_query_is_cancelled_at_any_moment_and_the_pool_goes_on(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=3))
    for turns in range(20):
        asked = [start(ask(pool, "select count(*) from pg_class")) for _ in range(5)]
        for _ in range(turns % 15):
            await deferLater(reactor, 0)
        for each in asked:
            each.addErrback(lambda failure: failure.trap(CancelledError))
            each.cancel()
        await gatherResults(asked)
        assert await ask(pool, "select %s::int", turns) == turns
    assert pool.status()[0].leased == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_statement_timeout_costs_no_connection(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    for _ in range(3):
        async with pool.connection() as connection:
            await connection.execute("set local statement_timeout = 20")
            with pytest.raises(psycopg.errors.QueryCanceled):
                await connection.execute("select pg_sleep(10)")
            await connection.rollback()
    assert pool.pool.counters().connects == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_what_a_lessee_left_open_is_rolled_back(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    lease = await pool.connect()
    await lease.protocol.connection.execute("create table left_open (i int)")
    lease.release()
    lease = await pool.connect()
    connection = lease.protocol.connection
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert not await value_of(
        connection, "select count(*) from pg_tables where tablename = 'left_open'"
    )
    lease.finished()
    assert pool.pool.counters().connects == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_what_a_lessee_set_on_our_side_is_undone(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    async with pool.connection() as connection:
        connection.row_factory = dict_row
        connection.prepare_threshold = None
        await connection.set_autocommit(True)
        await connection.set_read_only(True)
        connection.add_notify_handler(print)
    async with pool.connection() as connection:
        assert not connection.autocommit
        assert connection.read_only is None
        assert connection.prepare_threshold == 5
        assert await (await connection.execute("select 1")).fetchone() == (1,)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_discard_makes_the_session_as_new(make_postgres_pool: MakePool) -> None:
    for discard, left in ((False, "Tango"), (True, "")):
        pool = make_postgres_pool(policy=Policy(limit=1), discard=discard)
        async with pool.connection() as connection:
            await connection.execute("set application_name = 'Tango'")
            for _ in range(10):
                await connection.execute("select %s::int", (1,))  # it is prepared by now
        for _ in range(2):
            async with pool.connection() as connection:
                assert await value_of(connection, "show application_name") == left
                for _ in range(10):
                    await connection.execute("select %s::int", (1,))
        assert pool.pool.counters().connects == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_discard_forgets_the_statements_that_psycopg_has_prepared(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(discard=True, policy=Policy(limit=1))
    for number in range(20):  # psycopg prepares what it has seen five times, in some later lease
        assert await ask(pool, "select %s::int", number) == number
    assert pool.pool.counters().connects == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_release_in_the_middle_of_a_query_costs_the_connection(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    lease = await pool.connect()
    query = start(lease.protocol.connection.execute("select pg_sleep(30)"))
    query.addErrback(lambda failure: failure.trap(psycopg.OperationalError))
    await deferLater(reactor, 0.05)
    lease.release()
    assert await ask(pool, "select 1") == 1
    await query
    assert pool.pool.counters().connects == 2


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_notifications_reach_a_lessee_while_nothing_runs(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(autocommit=True)
    async with pool.connection() as connection:
        heard: list[Any] = []
        connection.add_notify_handler(heard.append)
        await connection.execute("listen news")
        await ask(pool, "select 1 from pg_notify('news', 'one')")
        await until(reactor, lambda: heard)
        assert heard[0].payload == "one"
        await connection.execute("unlisten *")


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_notifications_can_be_iterated_over_for_a_time(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool(autocommit=True)
    async with pool.connection() as connection:
        await connection.execute("listen news")
        for number in range(3):
            await ask(pool, "select 1 from pg_notify('news', %s::text)", str(number))
        heard = [each.payload async for each in connection.notifies(timeout=PATIENCE, stop_after=3)]
        assert heard == ["0", "1", "2"]
        assert [each async for each in connection.notifies(timeout=0.05)] == []
        assert await value_of(connection, "select 1") == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_notices_reach_their_handlers(make_postgres_pool: MakePool) -> None:
    async with make_postgres_pool().connection() as connection:
        heard: list[str] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        await connection.execute("do $$ begin raise notice 'look'; end $$")
        assert heard == ["look"]


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_full_pool_lets_wait_and_says_so_at_the_deadline(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    async with pool.connection():
        with pytest.raises(LeaseTimeout, match="limit 1"):
            async with pool.connection(timeout=0.1):
                raise AssertionError


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_pgbouncer_in_between_serves(
    make_postgres_pool: MakePool, pgbouncer: PgBouncer
) -> None:
    pool = make_postgres_pool(pgbouncer.conninfo, prepare_threshold=None)
    asked = [start(ask(pool, "select %s::int", i)) for i in range(50)]
    assert await gatherResults(asked) == list(range(50))
    await pgbouncer.kill()
    await until(reactor, lambda: pool.status()[0].idle == 0)
    await pgbouncer.start()
    assert await ask(pool, "select 1") == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_postgres_accounts_lose_no_money(postgres: Postgres) -> None:
    out, err, status = await run("postgres_accounts.py", postgres.conninfo)
    assert (out, err, status) == (
        "100 transfers on 5 connections, 10000 in all accounts\n",
        "",
        0,
    )
