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
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
asyncioreactor.install(LOOP)

from twisted.internet import reactor  # noqa: E402
from twisted.internet.task import deferLater  # noqa: E402

from kolus import (  # noqa: E402
    Backend,
    Closed,
    ConnectFailed,
    LeaseError,
    LeaseTimeout,
    Policy,
    Pool,
    aio,
)
from tests.rigs.patience import PATIENCE  # noqa: E402

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
    chance, served, cancelled = random.Random(7), 0, 0

    async def use() -> None:
        nonlocal served
        async with aio.lease(pool, "u", its):
            served += 1
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)

    while cancelled < 10_000:
        tasks = [asyncio.ensure_future(use()) for _ in range(50)]
        for task in tasks:
            if chance.random() < 0.7:
                asyncio.get_running_loop().call_later(
                    chance.choice((0, 0, 0.0001, 0.001, 0.005)), task.cancel
                )
        await asyncio.gather(*tasks, return_exceptions=True)
        cancelled += sum(task.cancelled() for task in tasks)
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


@scene
async def a_task_that_is_cancelled_at_any_await_loses_no_lease() -> None:
    pool, its = make_pool(limit=2, acquire_timeout=None), await backend()

    class Line(Protocol):
        def __init__(self) -> None:
            self.came: asyncio.Future[bytes] = LOOP.create_future()

        def dataReceived(self, data: bytes) -> None:
            if not self.came.done():
                self.came.set_result(data)

    pool._protocol = Line
    reached = set()

    async def use(name: int) -> None:
        reached.add("begins")
        async with aio.lease(pool, "u", its) as lease:
            reached.add("has it")
            lease.protocol.came = LOOP.create_future()
            lease.protocol.transport.write(b"%d" % name)
            assert await lease.protocol.came == b"%d" % name
            reached.add("has the answer")
            await aio.wait(deferLater(reactor, 0.001))
            reached.add("has waited")
        await asyncio.sleep(0)

    for turns in range(40):
        tasks = [asyncio.ensure_future(use(number)) for number in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0 if turns % 2 else 0.0003)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        errors = [task.exception() for task in tasks if not task.cancelled()]
        assert errors == [None] * len(errors), errors
        assert leased(pool) == 0, pool.status()
    gc.collect()
    assert pool.counters().forgotten == 0
    assert reached == {"begins", "has it", "has the answer", "has waited"}


@scene
async def a_task_that_ends_without_settling_costs_its_connection_alone() -> None:
    pool, its = make_pool(limit=1), await backend()

    async def forgetful() -> None:
        lease = await aio.connect(pool, "u", its)
        assert lease.held

    for _ in range(3):
        await asyncio.ensure_future(forgetful())
        gc.collect()
        async with aio.lease(pool, "u", its, timeout=5.0):
            pass
    assert pool.counters().forgotten == 3
    assert leased(pool) == 0


@scene
async def a_time_limit_at_the_moment_of_service_loses_no_lease() -> None:
    pool, its = make_pool(limit=1, acquire_timeout=None), await backend()
    served = late = 0

    async def use(how: Any) -> None:
        nonlocal served, late
        try:
            if how is asyncio.timeout:
                async with asyncio.timeout(0.002), aio.lease(pool, "u", its):
                    served += 1
            else:
                (await asyncio.wait_for(aio.connect(pool, "u", its), 0.002)).release()
                served += 1
        except TimeoutError:
            late += 1

    for number in range(200):
        first = await aio.connect(pool, "u", its)
        use_it = use(asyncio.timeout if number % 2 else asyncio.wait_for)
        task = asyncio.ensure_future(use_it)
        if number % 3:
            LOOP.call_later(0.002, first.release)
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(0)
            LOOP.call_later(0.0019, first.release)
        await task
        while first.held:  # on a busy machine it was to be released later than meant
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert leased(pool) == 0, pool.status()
    gc.collect()
    assert pool.counters().forgotten == 0
    assert served + late == 200


@scene
async def a_task_group_that_fails_while_some_wait_lets_none_of_them_in() -> None:
    pool, its = make_pool(limit=1, acquire_timeout=None), await backend()
    entered = 0

    async def use() -> None:
        nonlocal entered
        async with aio.lease(pool, "u", its):
            entered += 1
            await asyncio.sleep(0.01)
            raise ZeroDivisionError

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(use())
    except* ZeroDivisionError:
        pass
    assert entered == 1
    assert leased(pool) == 0
    async with aio.lease(pool, "u", its):
        pass


@scene
async def an_owner_that_ends_when_its_task_is_cancelled_settles_its_lease_once() -> None:
    pool, its = make_pool(limit=1), await backend()
    for _ in range(20):
        first, owner = await aio.connect(pool, "u", its), Deferred[None]()
        task = asyncio.ensure_future(aio.connect(pool, "u", its, owner=owner))
        await asyncio.sleep(0)
        first.release()
        owner.callback(None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert leased(pool) == 0


@scene
async def a_request_whose_task_is_thrown_away_leaves_the_queue() -> None:
    pool, its = make_pool(limit=1), await backend()
    async with aio.lease(pool, "u", its):
        waits = aio.connect(pool, "u", its)
        waits.send(None)
        assert pool.status()[0].waiting == 1
        waits.close()
        assert pool.status()[0].waiting == 0


@scene
async def a_coroutine_of_twisted_is_waited_for_and_cancelled_with_its_task() -> None:
    pool, its = make_pool(limit=1), await backend()

    async def use(seconds: float) -> str:
        async with pool.connect("u", its):  # awaits a Deferred
            await deferLater(reactor, seconds)
        return "used"

    assert await aio.wait(use(0.001)) == "used"
    tasks = [asyncio.ensure_future(aio.wait(use(10.0))) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert leased(pool) == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)
    assert leased(pool) == 0


@scene
async def a_pool_that_closes_tells_every_task_that_waits() -> None:
    pool, its = make_pool(limit=1, acquire_timeout=None), await backend()
    lease = await aio.connect(pool, "u", its)
    tasks = [asyncio.ensure_future(aio.connect(pool, "u", its)) for _ in range(5)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(aio.wait(pool.close()))
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, Closed) for each in told), told
    lease.release()
    await closing


def main(name: str) -> int:
    failed: list[BaseException] = []

    async def run() -> None:
        try:
            await asyncio.wait_for(SCENES[name](), PATIENCE / 2)
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
