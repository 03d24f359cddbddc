"""What is for C{async with}, used as one does when one has not read that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.task import Clock

from kolus import aio
from kolus.clients.postgres import PostgresPool
from kolus.clients.redis import RedisPool
from kolus.support import InBlock
from tests.rigs.loops import run_in_a_loop

BLOCKS: dict[str, Callable[[], Any]] = {
    "async with pool.connection() as connection:": lambda: PostgresPool(
        Clock(), "host=127.0.0.1"
    ).connection(),
    "async with redis.subscriber(received) as subscriber:": lambda: RedisPool(Clock()).subscriber(
        print
    ),
    "async with aio.lease(...) as lease:": lambda: aio.lease(None),
}


async def awaited(block: Any) -> None:
    await block


def entered(block: Any) -> None:
    with block:
        pass


@pytest.mark.parametrize("usage", BLOCKS)
def test_a_block_that_is_used_otherwise_says_what_to_write(usage: str) -> None:
    block = BLOCKS[usage]()
    assert isinstance(block, InBlock)
    with pytest.raises(AttributeError) as missing:
        block.execute("select 1")
    with pytest.raises(TypeError) as awaiting:
        run_in_a_loop(awaited(block))
    with pytest.raises(TypeError) as entering:
        entered(block)
    for caught in (missing, awaiting, entering):
        assert f"write: {usage}" in str(caught.value)
    assert "'execute'" in str(missing.value)


def test_the_block_of_a_redis_connection_says_it_too() -> None:
    with pytest.raises(AttributeError, match=r"async with pool\.connection\(\)"):
        RedisPool(Clock()).connection().get("key")


@pytest.mark.parametrize("usage", BLOCKS)
def test_a_block_is_entered_once_so_that_no_lease_takes_the_place_of_another(usage: str) -> None:
    block = BLOCKS[usage]()
    first, second = block.__aenter__(), block.__aenter__()
    with suppress(Exception):  # here are no servers, no pool and no loop
        first.send(None)
    with pytest.raises(RuntimeError, match="only once; write each time: async with"):
        second.send(None)
    first.close()
