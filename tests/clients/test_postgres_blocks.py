"""The end of a block, whatever happened in it, also if nobody runs its coroutine on."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import psycopg
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent

from kolus import Policy
from tests.clients.test_postgres import ask, start
from tests.net.asking import until

pytestmark = pytest.mark.long

MakePool = Callable[..., Any]

MANY = "select generate_series(1, 1000000)"


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_closed_in_its_block_ends_there(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    async with pool.connection() as connection:
        await connection.execute("select 1")  # a transaction is open
        await connection.close()
        assert connection.closed
        with pytest.raises(psycopg.OperationalError, match="closed"):
            await connection.execute("select 1")

    async def raises() -> None:
        async with pool.connection() as connection:
            await connection.close()
            raise KeyError

    with pytest.raises(KeyError):
        await raises()
    async with pool.connection() as connection:
        assert not connection.closed
        await connection.execute("select 1")
    assert pool.pool.counters().connects == 3


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_used_after_its_block_is_nobody_elses_next(
    make_postgres_pool: MakePool, log_events: list[LogEvent]
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    async with pool.connection() as before:
        pass
    await before.execute("select 1")  # it opens a transaction
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await before.execute("select 1")
    told = [formatEvent(each) for each in log_events]
    assert any(each.endswith("closed: it was used while it was idle") for each in told)
    async with pool.connection() as connection:
        assert connection is not before
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("autocommit", [False, True])
async def test_a_transaction_that_ends_with_its_connection_is_an_error_of_its_block(
    make_postgres_pool: MakePool, autocommit: bool
) -> None:
    pool = make_postgres_pool(autocommit=autocommit)

    async def idles() -> None:
        async with pool.connection() as connection:
            await connection.execute("select 1")
            pid = connection.info.backend_pid
            await ask(pool, "select pg_terminate_backend(%s)", pid)
            await until(reactor, lambda: connection.closed)

    if autocommit:  # nothing is lost
        await idles()
    else:
        with pytest.raises(psycopg.OperationalError, match="closed: terminating connection"):
            await idles()


@pytest_twisted.ensureDeferred
async def test_a_transaction_that_the_pool_ends_is_an_error_of_its_block(
    make_postgres_pool: MakePool,
) -> None:
    pool, begun = make_postgres_pool(), Deferred[None]()

    async def idles() -> None:
        async with pool.connection() as connection:
            await connection.execute("select 1")
            begun.callback(None)
            await until(reactor, lambda: connection.closed)

    idling = start(idles())
    await begun
    await pool.close(0)
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await idling


@pytest_twisted.ensureDeferred
async def test_a_stream_that_is_left_half_way_lets_the_block_end(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    for _ in range(2):
        async with pool.connection() as connection:
            async for (number,) in connection.cursor().stream(MANY):
                if number == 3:
                    break
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
async def test_a_stream_has_its_rows_and_can_be_closed(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1), autocommit=True)
    async with pool.connection() as connection:
        some = connection.cursor().stream("select generate_series(1, 5)")
        assert [number async for (number,) in some] == [1, 2, 3, 4, 5]
        async with aclosing(connection.cursor().stream(MANY)) as rows:
            assert await anext(rows) == (1,)
        assert await (await connection.execute("select 2")).fetchone() == (2,)


@pytest_twisted.ensureDeferred
async def test_a_generator_that_is_left_within_a_block_gives_its_connection_back(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))

    async def numbers() -> AsyncIterator[int]:
        async with pool.connection() as connection:
            await connection.execute("create temporary table passing (x int)")
            for (number,) in await (await connection.execute("select 1")).fetchall():
                yield number

    async for number in numbers():
        assert number == 1
        break
    gc.collect()
    async with pool.connection() as connection:
        found = await connection.execute("select to_regclass('passing')")
        assert await found.fetchone() == (None,), "it was not rolled back"
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of psycopg's end
@pytest.mark.parametrize("is_collected", [False, True])
async def test_a_generator_that_is_left_within_a_transaction_holds_no_connection(
    make_postgres_pool: MakePool, is_collected: bool
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1, acquire_timeout=2.0), autocommit=True)

    async def numbers() -> AsyncIterator[int]:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("create table passing (x int)")
            yield 1

    gc.disable()  # what is left refers to itself
    try:
        async for _ in numbers():
            break
        if is_collected:
            gc.collect()
        async with pool.connection() as connection:
            found = await connection.execute("select to_regclass('passing')")
            assert await found.fetchone() == (None,), "it was not rolled back"
    finally:
        gc.enable()


@pytest_twisted.ensureDeferred
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of psycopg's end
async def test_a_copy_in_a_generator_that_is_left_leaves_nothing_in_the_reactor(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))

    async def rows() -> AsyncIterator[Any]:
        async with (
            pool.connection() as connection,
            connection.cursor().copy(f"copy ({MANY}) to stdout") as copy,
        ):
            async for row in copy.rows():
                yield row

    async for _ in rows():
        break
    gc.collect()
    async with pool.connection() as connection:
        await connection.execute("select 1")


@pytest_twisted.ensureDeferred
async def test_a_coroutine_that_is_thrown_away_within_a_block_gives_its_connection_back(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    begun: list[None] = []

    async def waits() -> None:
        async with pool.connection() as connection:
            await connection.execute("select 1")
            begun.append(None)
            await Deferred()

    start(waits())
    await until(reactor, lambda: begun)
    gc.collect()
    async with pool.connection() as connection:
        await connection.execute("select 1")
    counters = pool.pool.counters()
    assert (counters.leases, counters.releases + counters.forgotten) == (2, 2)
