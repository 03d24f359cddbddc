"""Each example, run as its reader would run it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from tests.net import servers
from tests.net.asking import in_parallel
from tests.net.servers import Server, free_port

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


async def run(example: str, *arguments: str) -> tuple[str, str, int]:
    """Run an example.

    @return: what it printed, what it complained about, and its status.
    """
    path = str(ROOT / "examples" / example)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    out, err, status = await getProcessOutputAndValue(
        sys.executable, [path, *arguments], env=environment
    )
    return out.decode(), err.decode(), status


def test_every_example_is_run_here() -> None:
    written = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert written == {
        *("redis_cache.py", "memcached_counter.py", "select_three.py"),
        *("amp_calls.py", "asyncio_tasks.py", "http_pages.py", "postgres_accounts.py"),
        "run_again.py",
    }


@pytest_twisted.ensureDeferred
async def test_amp_calls_share_two_connections() -> None:
    out, err, status = await run("amp_calls.py")
    assert (out, err, status) == ("1000 calls on 2 connections\n", "", 0)


@pytest_twisted.ensureDeferred
async def test_http_pages_share_five_connections() -> None:
    out, err, status = await run("http_pages.py")
    assert (out, err, status) == ("300 pages on 5 connections\n", "", 0)


@pytest_twisted.ensureDeferred
async def test_asyncio_tasks_share_five_connections() -> None:
    out, err, status = await run("asyncio_tasks.py")
    assert (err, status) == ("", 0)
    assert out == "the late one was cancelled\n100 answers on 5 connections\n"


@pytest_twisted.ensureDeferred
async def test_redis_cache_finds_at_the_second_look_what_it_kept_at_the_first(
    redis: Server,
) -> None:
    out, err, status = await run("redis_cache.py", redis.endpoint)
    assert (err, status) == ("", 0)
    assert "second look: 200 of 200 were there\n" in out


@pytest_twisted.ensureDeferred
async def test_memcached_counter_loses_no_count(memcached: Server) -> None:
    out, err, status = await run("memcached_counter.py", memcached.endpoint)
    assert (out, err, status) == ("counted to 200 on 4 connections\n", "", 0)


@pytest_twisted.ensureDeferred
async def test_run_again_reads_all_that_it_has_written(memcached: Server) -> None:
    out, err, status = await run("run_again.py", memcached.endpoint, "--pause", "0.01")
    lines = [*["20 of 20 keys were there"] * 3, "4 leases on 2 connections"]
    assert (out.splitlines(), err, status) == (lines, "", 0)


@pytest_twisted.ensureDeferred
async def test_select_three_shares_the_requests_out(memcached_binary: str, tmp_path: Path) -> None:
    three = [servers.memcached(reactor, memcached_binary, tmp_path) for _ in range(3)]
    try:
        await in_parallel(*(each.start() for each in three))
        out, err, status = await run("select_three.py", *(each.endpoint for each in three))
    finally:
        await in_parallel(*(each.kill() for each in three))
    assert (err, status) == ("", 0)
    answers = re.findall(r"^(.*): (\d+) answers$", out, re.MULTILINE)
    assert [endpoint for endpoint, _ in answers] == [each.endpoint for each in three]
    assert sum(int(count) for _, count in answers) == 90
    assert all(int(count) >= 5 for _, count in answers)  # whichever was free first had the next


@pytest_twisted.ensureDeferred
async def test_select_three_passes_over_the_backends_that_are_down(memcached: Server) -> None:
    down = [f"tcp:127.0.0.1:{free_port()}" for _ in range(2)]
    out, err, status = await run("select_three.py", *down, memcached.endpoint)
    assert (err, status) == ("", 0)
    assert out.endswith(f"{memcached.endpoint}: 90 answers\n")


@pytest.mark.parametrize(
    ("example", "backends"),
    [("redis_cache.py", 1), ("memcached_counter.py", 1), ("select_three.py", 3)],
)
@pytest_twisted.ensureDeferred
async def test_example_says_in_one_line_that_its_backend_is_down(
    example: str, backends: int
) -> None:
    down = [f"tcp:127.0.0.1:{free_port()}" for _ in range(backends)]
    out, err, status = await run(example, *down)
    assert (out, status) == ("", 1)
    assert re.fullmatch(r"cannot connect to (\S+): ConnectionRefusedError: .*\n", err)
    assert all(each in err for each in down)


@pytest.mark.parametrize(
    ("example", "backends"),
    [("redis_cache.py", 1), ("memcached_counter.py", 1), ("select_three.py", 3)],
)
@pytest_twisted.ensureDeferred
async def test_example_refuses_what_is_no_endpoint(example: str, backends: int) -> None:
    out, err, status = await run(example, *["nowhere"] * backends)
    assert (out, status) == ("", 2)
    assert "invalid Backend value: 'nowhere'" in err
