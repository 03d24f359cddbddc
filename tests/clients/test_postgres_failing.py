"""PostgreSQL that is killed, restarted, or not what it should be."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent

from kolus import ConnectFailed, KolusError, Policy
from tests.clients.postgres_servers import PgBouncer, Postgres
from tests.clients.test_postgres import ask, start
from tests.conftest import LoggedFailures
from tests.net.asking import until
from tests.net.servers import free_port

pytestmark = pytest.mark.long

MakePool = Callable[..., Any]


async def fill(pool: Any, count: int) -> None:
    """Have so many idle connections."""
    for lease in [await each for each in [pool.connect() for _ in range(count)]]:
        lease.release()
    assert pool.status()[0].idle == count


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_that_the_server_ends_is_noticed(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool()
    await fill(pool, 3)
    others = "pid <> pg_backend_pid() and backend_type = 'client backend'"
    await ask(pool, f"select pg_terminate_backend(pid) from pg_stat_activity where {others}")
    await until(reactor, lambda: pool.status()[0].idle == 1)
    assert await gatherResults([start(ask(pool, "select 1")) for _ in range(8)]) == [1] * 8


@pytest_twisted.ensureDeferred
async def test_the_servers_last_words_are_the_reason_of_a_loss(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool()
    lease = await pool.connect()
    connection = lease.protocol.connection
    lost = lease.when_lost()
    pid = connection.info.backend_pid
    await ask(pool, "select pg_terminate_backend(%s)", pid)
    assert "administrator" in str(await lost)
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("select 1")
    lease.finished()


@pytest_twisted.ensureDeferred
async def test_a_query_whose_session_is_terminated_fails_with_the_servers_words(
    make_postgres_pool: MakePool,
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=2))
    slow = start(ask(pool, "select pg_sleep(30)"))
    ends = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where query = 'select pg_sleep(30)' and state = 'active'"
    )
    while await ask(pool, ends) == 0:
        await deferLater(reactor, 0.01)
    with pytest.raises(psycopg.errors.AdminShutdown, match="administrator"):
        await slow
    assert await gatherResults([start(ask(pool, "select 1")) for _ in range(4)]) == [1] * 4
    assert pool.status()[0].leased == 0


@pytest_twisted.ensureDeferred
async def test_a_query_behind_pgbouncer_is_cancelled(
    make_postgres_pool: MakePool, pgbouncer: PgBouncer
) -> None:
    pool = make_postgres_pool(pgbouncer.conninfo, prepare_threshold=None)
    slow = start(ask(pool, "select pg_sleep(30)"))
    running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(30)'"
    while await ask(pool, f"{running} and state = 'active'") == 0:
        await deferLater(reactor, 0.01)
    slow.cancel()
    with pytest.raises(CancelledError):
        await slow
    assert await ask(pool, f"{running} and state = 'active'") == 0
    assert pool.status()[0].leased == 0


@pytest_twisted.ensureDeferred
async def test_callers_survive_a_restart_of_the_server(
    make_postgres_pool: MakePool, postgres: Postgres
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=5, fail_fast=False))
    outcomes = {"good": 0, "bad": 0}
    over = False

    async def call() -> None:
        while not over:
            try:
                outcomes["good"] += await ask(pool, "select 1")
            except (psycopg.Error, KolusError):
                outcomes["bad"] += 1
                await deferLater(reactor, 0.01)

    callers = [start(call()) for _ in range(20)]
    await until(reactor, lambda: outcomes["good"] > 100)
    await postgres.stop()
    await postgres.start()
    good = outcomes["good"]
    await until(reactor, lambda: outcomes["good"] > good + 100)
    over = True
    await gatherResults(callers)
    assert pool.status()[0].leased == 0
    assert outcomes["bad"] <= 20 + 5  # who had a connection when it went, and a few in between


@pytest_twisted.ensureDeferred
async def test_a_frozen_server_is_found_by_the_check(
    make_postgres_pool: MakePool, postgres: Postgres
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=2, check_after=0.0, check_timeout=1.0))
    lease = await pool.connect()
    pid = lease.protocol.connection.info.backend_pid
    lease.release()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert await ask(pool, "select 1") == 1  # by another connection
    finally:
        os.kill(pid, signal.SIGCONT)
    assert pool.pool.counters().connects == 2


@pytest_twisted.ensureDeferred
async def test_a_cancelled_query_that_does_not_end_costs_its_connection(
    make_postgres_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kolus.clients.postgres import connection as module

    monkeypatch.setattr(module, "_STOPS_WITHIN", 0.2)
    pool = make_postgres_pool(policy=Policy(limit=2))
    lease = await pool.connect()
    connection = lease.protocol.connection
    pid = connection.info.backend_pid
    query = start(connection.execute("select pg_sleep(30)"))
    await deferLater(reactor, 0.05)
    os.kill(pid, signal.SIGSTOP)
    try:
        query.cancel()
        await query.addErrback(lambda failure: failure.trap(Exception))
        await until(reactor, lambda: connection.closed)
    finally:
        os.kill(pid, signal.SIGCONT)
    lease.release()
    assert await ask(pool, "select 1") == 1


@pytest_twisted.ensureDeferred
async def test_of_several_hosts_one_that_works_serves(
    make_postgres_pool: MakePool, postgres: Postgres
) -> None:
    dead = free_port()
    pool = make_postgres_pool(
        f"host=127.0.0.1,127.0.0.1 port={dead},{postgres.port} user=postgres password=secret"
    )
    assert await gatherResults([start(ask(pool, "select 1")) for _ in range(5)]) == [1] * 5
    assert pool.pool.counters(pool.group.backends[0]).connects == 0


@pytest_twisted.ensureDeferred
async def test_a_role_chooses_the_host(make_postgres_pool: MakePool, postgres: Postgres) -> None:
    # The first of these two is the same server, asked for a session that only reads.
    both = f"host=127.0.0.1 port={postgres.port} user=postgres password=secret"
    good = make_postgres_pool(f"{both} target_session_attrs=read-write")
    assert await ask(good, "show transaction_read_only") == "off"
    bad = make_postgres_pool(f"{both} target_session_attrs=standby")
    with pytest.raises(ConnectFailed, match="standby"):
        await ask(bad, "select 1")
    either = make_postgres_pool(f"{both} target_session_attrs=prefer-standby")
    assert await ask(either, "select 1") == 1


@pytest_twisted.ensureDeferred
async def test_a_name_and_a_url_and_a_unix_socket_will_do(
    make_postgres_pool: MakePool, postgres: Postgres, cluster: Any
) -> None:
    for conninfo in (
        f"host=localhost port={postgres.port} user=postgres password=secret",
        f"postgresql://postgres:secret@127.0.0.1:{postgres.port}/postgres",
        f"host={cluster} port={postgres.port} user=postgres password=secret",
    ):
        assert await ask(make_postgres_pool(conninfo), "select 1") == 1


@pytest_twisted.ensureDeferred
async def test_the_password_is_asked_for_at_each_connect(
    make_postgres_pool: MakePool, postgres: Postgres
) -> None:
    asked: list[int] = []

    async def password() -> str:
        asked.append(1)
        return "secret"

    conninfo = f"host=127.0.0.1 port={postgres.port} user=postgres"
    pool = make_postgres_pool(conninfo, password=password)
    await fill(pool, 3)
    assert len(asked) == 3
    assert await ask(make_postgres_pool(conninfo, password="secret"), "select 1") == 1


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_an_error_that_does_not_tell_it(
    make_postgres_pool: MakePool, postgres: Postgres, log_events: list[LogEvent]
) -> None:
    conninfo = f"host=127.0.0.1 port={postgres.port} user=postgres password=opensesame"
    pool = make_postgres_pool(conninfo)
    with pytest.raises(ConnectFailed, match="password authentication failed") as caught:
        await ask(pool, "select 1")
    told = f"{caught.value!r} {pool.explain()} {pool.status()} {pool.group!r} {pool!r}"
    lines = [formatEvent(each) for each in log_events]
    assert "opensesame" not in f"{told} {lines}"
    (its,) = [line for line in lines if "password authentication failed" in line]
    assert "Traceback" not in its, "the log tells what the server said, in one line"


def test_a_conninfo_that_cannot_be_parsed_is_an_error_that_does_not_tell_the_password() -> None:
    from kolus.clients.postgres import PostgresPool

    with pytest.raises(ValueError, match="cannot be parsed") as caught:
        PostgresPool(reactor, "host=localhost password=open sesame")
    assert "sesame" not in f"{caught.value!r} {caught.value.__cause__!r}"
    for conninfo in ("host=a,b,c port=1,2", "host=a port=x"):
        with pytest.raises(ValueError, match="conninfo"):
            PostgresPool(reactor, conninfo)


def test_without_psycopg_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(sys.modules):
        if name.startswith("kolus.clients.postgres"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"pip install 'kolus\[postgres\]'"):
        import kolus.clients.postgres  # noqa: F401


@pytest_twisted.ensureDeferred
async def test_a_connection_closed_by_its_lessee_is_replaced(make_postgres_pool: MakePool) -> None:
    pool = make_postgres_pool(policy=Policy(limit=1))
    async with pool.connection() as connection:
        await connection.commit()
        await connection.close()
        await deferLater(reactor, 0.01)
        assert connection.closed
    assert await ask(pool, "select 1") == 1


@pytest_twisted.ensureDeferred
async def test_a_notify_handler_that_raises_is_logged_and_hears_on(
    make_postgres_pool: MakePool, logged_failures: LoggedFailures
) -> None:
    pool, heard = make_postgres_pool(autocommit=True), []

    def fails(notification: Any) -> None:
        heard.append(notification.payload)
        raise KeyError

    async with pool.connection() as connection:
        await connection.execute("listen news")
        connection.add_notify_handler(fails)
        for payload in ("one", "two"):
            await ask(pool, "select 1 from pg_notify('news', %s)", payload)
            await until(reactor, lambda payload=payload: payload in heard)
    assert heard == ["one", "two"]
    assert len(logged_failures.flush(KeyError)) == 2
