"""Connections to processes: what lies in their pipes is looked at as in a socket, and an abort ends
the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import ProcessEndpoint

from kolus import Backend, Pool
from tests.net.asking import until, wait_for_news
from tests.net.peers import Asker

MakePool = Callable[..., Pool[Any]]
pytestmark = [pytest.mark.long, pytest.mark.parametrize("slots", [None, 3])]


def process(script: str) -> Backend:
    """A shell that runs a script."""
    return Backend(ProcessEndpoint(reactor, "/bin/sh", ["sh", "-c", script]), name="process")


def output_of(protocol: Any) -> int:
    """The descriptor of what its process writes to."""
    return protocol.transport._process.pipes[1].fileno()


@pytest_twisted.ensureDeferred
async def test_a_connection_to_a_process_is_used_again(make_pool: MakePool, slots: Any) -> None:
    pool, cat = make_pool(Asker, slots=slots), process("exec cat")
    for _ in range(3):
        async with await pool.connect("test", cat) as lease:
            assert await lease.protocol.ask(b"hello") == b"hello"
    assert pool.counters(cat).connects == 1
    await pool.close(0)


@pytest_twisted.ensureDeferred
async def test_what_a_process_said_unasked_reaches_no_lessee(
    make_pool: MakePool, slots: Any
) -> None:
    pool, chatty = make_pool(Asker, slots=slots), process("read x; echo $x; sleep 0.1; echo late")
    async with await pool.connect("test", chatty) as lease:
        assert await lease.protocol.ask(b"one\n") == b"one\n"
        first = lease.protocol
    wait_for_news(output_of(first))
    async with await pool.connect("test", chatty) as lease:
        assert not lease.reused
        assert await lease.protocol.ask(b"two\n") == b"two\n"
    await pool.close(0)


@pytest_twisted.ensureDeferred
async def test_a_process_that_has_ended_is_not_leased(make_pool: MakePool, slots: Any) -> None:
    pool, cat = make_pool(Asker, slots=slots), process("exec cat")
    async with await pool.connect("test", cat) as lease:
        assert await lease.protocol.ask(b"hello") == b"hello"
        first = lease.protocol
    os.kill(first.transport._process.pid, signal.SIGKILL)
    wait_for_news(output_of(first))
    async with await pool.connect("test", cat) as lease:
        assert not lease.reused
    await pool.close(0)


@pytest_twisted.ensureDeferred
async def test_a_process_that_has_ended_does_not_count_as_ready(
    make_pool: MakePool, slots: Any
) -> None:
    pool, cat = make_pool(Asker, slots=slots), process("exec cat")
    async with await pool.connect("test", cat) as lease:
        first = lease.protocol
    os.kill(first.transport._process.pid, signal.SIGKILL)
    wait_for_news(output_of(first))
    await pool.warm(cat, 1, ident="test")
    assert pool.counters(cat).connects == 2
    await pool.close(0)


@pytest_twisted.ensureDeferred
async def test_a_process_whose_lessee_closed_it_is_not_leased(
    make_pool: MakePool, slots: Any
) -> None:
    pool, cat = make_pool(Asker, slots=slots, limit=2), process("exec cat")
    for close in ("loseConnection", "closeStdin"):
        lease = await pool.connect("test", cat)
        getattr(lease.protocol.transport, close)()
        lease.release()
        async with await pool.connect("test", cat) as another:
            assert await another.protocol.ask(b"hello") == b"hello"
    await pool.close(0)


@pytest_twisted.ensureDeferred
async def test_a_process_that_has_not_taken_all_that_was_written_is_not_leased(
    make_pool: MakePool, slots: Any
) -> None:
    pool, deaf = make_pool(Asker, slots=slots, limit=2), process("exec sleep 60")
    lease = await pool.connect("test", deaf)
    lease.protocol.transport.write(b"x" * 3_000_000)
    lease.release()
    async with await pool.connect("test", deaf) as lease:
        assert not lease.reused
    await pool.close(0)


@pytest_twisted.ensureDeferred
async def test_an_abort_ends_a_process_that_does_not_care_that_its_pipes_are_closed(
    make_pool: MakePool, slots: Any
) -> None:
    pool, deaf = make_pool(Asker, slots=slots, close_timeout=0.0), process("exec sleep 60")
    lease = await pool.connect("test", deaf)
    protocol = lease.protocol
    lease.finished()
    await until(reactor, lambda: protocol.lost)
    assert protocol.lost.value.signal == signal.SIGKILL
    await pool.close(0)
