"""Scenes of leases in asyncio tasks; each is run by C{test_aio.py} in a process of its own.

The reactor of the tests may be another than asyncio's, so C{python -m tests.clients.aio_scenes
SCENE} runs one scene under that reactor, and exits with 0 if nothing was raised.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet import asyncioreactor
from twisted.internet.protocol import Protocol

LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
asyncioreactor.install(LOOP)

from twisted.internet import reactor  # noqa: E402

from kolus import (  # noqa: E402
    Backend,
    ConnectFailed,
    LeaseError,
    LeaseTimeout,
    Policy,
    Pool,
    aio,
)

SCENES: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}

Scene = Callable[[], Coroutine[Any, Any, None]]


def scene(function: Scene) -> Scene:
    SCENES[function.__name__] = function
    return function


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def backend() -> Backend:
    """An echo server on the loopback."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    return Backend(server.sockets[0].getsockname()[:2])


def make_pool(**options: Any) -> Pool[Protocol]:
    return Pool(reactor, Protocol, policy=Policy(**options))


def leased(pool: Pool[Any]) -> int:
    return sum(status.leased + status.waiting for status in pool.status())


@scene
async def a_lease_lasts_for_its_block() -> None:
    pool, its = make_pool(), await backend()
    async with aio.lease(pool, "u", its) as lease:
        assert lease.held
        assert pool.status()[0].leased == 1
    assert not lease.held
    assert pool.status()[0].idle == 1


@scene
async def a_block_that_raises_finishes_its_lease() -> None:
    pool, its = make_pool(), await backend()
    try:
        async with aio.lease(pool, "u", its):
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert pool.counters().finishes == 1


@scene
async def groups_and_select_work_alike() -> None:
    pool, its = make_pool(), await backend()
    group = pool.group([its])
    async with aio.lease(group, "u") as lease:
        assert lease.backend == its
    lease = await aio.connect(pool, "u", its)
    lease.release()
    lease = await aio.wait(pool.select("u", [its]))
    lease.release()
    await aio.wait(pool.close())


@scene
async def tasks_that_are_cancelled_at_random_lose_no_lease() -> None:
    pool, its = make_pool(limit=5, acquire_timeout=None), await backend()
    chance, served = random.Random(7), 0

    async def use() -> None:
        nonlocal served
        async with aio.lease(pool, "u", its):
            served += 1
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)

    for _ in range(200):
        tasks = [asyncio.ensure_future(use()) for _ in range(50)]
        for task in tasks:
            if chance.random() < 0.7:
                asyncio.get_running_loop().call_later(
                    chance.choice((0, 0, 0.0001, 0.001, 0.005)), task.cancel
                )
        await asyncio.gather(*tasks, return_exceptions=True)
        assert leased(pool) == 0, pool.status()
    gc.collect()
    assert served > 1000
    counters = pool.counters()
    assert counters.forgotten == 0, counters


@scene
async def a_task_cancelled_in_the_turn_in_which_it_is_served_loses_no_lease() -> None:
    pool, its = make_pool(limit=1), await backend()
    for _ in range(100):
        first = await aio.connect(pool, "u", its)
        task = asyncio.ensure_future(aio.connect(pool, "u", its))
        await asyncio.sleep(0)
        first.release()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert leased(pool) == 0


@scene
async def a_time_limit_of_asyncio_ends_a_request() -> None:
    pool, its = make_pool(limit=1, acquire_timeout=None), await backend()
    async with aio.lease(pool, "u", its):
        try:
            async with asyncio.timeout(0.05), aio.lease(pool, "u", its):
                raise AssertionError
        except TimeoutError:
            pass
        assert pool.status()[0].waiting == 0
        assert issubclass(LeaseTimeout, TimeoutError)
        with pytest.raises(LeaseTimeout):
            await aio.connect(pool, "u", its, timeout=0.05)


@scene
async def a_task_group_that_fails_gives_all_leases_back() -> None:
    pool, its = make_pool(limit=3), await backend()

    async def use(fails: bool) -> None:
        async with aio.lease(pool, "u", its):
            await asyncio.sleep(0.01)
            if fails:
                raise ZeroDivisionError
            await asyncio.sleep(10)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(use(number == 2))
    except* ZeroDivisionError:
        pass
    assert leased(pool) == 0


@scene
async def a_task_owns_its_leases() -> None:
    pool, its = make_pool(), await backend()
    kept = []

    async def forgetful() -> None:
        kept.append(await aio.connect(pool, "u", its, owner=asyncio.current_task()))

    await asyncio.ensure_future(forgetful())
    await asyncio.sleep(0)
    assert not kept[0].held
    assert leased(pool) == 0
    done = asyncio.ensure_future(asyncio.sleep(0))
    await done
    with pytest.raises(LeaseError, match="has ended"):
        await aio.connect(pool, "u", its, owner=done)


@scene
async def an_error_of_the_pool_is_raised_in_the_task() -> None:
    pool = make_pool()
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    its = Backend(server.sockets[0].getsockname()[:2])
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectFailed, match="refused"):
        await aio.connect(pool, "u", its)


def main(name: str) -> int:
    failed: list[BaseException] = []

    async def run() -> None:
        try:
            await asyncio.wait_for(SCENES[name](), 30.0)
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            reactor.stop()  # type: ignore[attr-defined]

    tasks = []
    reactor.callWhenRunning(lambda: tasks.append(LOOP.create_task(run())))  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
