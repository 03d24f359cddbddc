"""A request that an asyncio task awaits: an error says what to write, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.rigs.idents import Idents
from tests.rigs.loops import run_in_a_loop

ADVICE = r"kolus\.aio\.lease"


async def plainly(asked: Any) -> None:
    await asked


async def in_a_block(asked: Any) -> None:
    async with asked:
        raise AssertionError


async def by_another_coroutine(asked: Any) -> None:
    await plainly(asked)


async def by_another_task(asked: Any) -> None:
    await asyncio.ensure_future(asked)


async def for_some_time(asked: Any) -> None:
    await asyncio.wait_for(asked, 5.0)


async def from_an_asynchronous_generator(asked: Any) -> None:
    async def all_of_them() -> Any:
        yield await asked

    async for _ in all_of_them():
        raise AssertionError


MANNERS = [
    plainly,
    in_a_block,
    by_another_coroutine,
    by_another_task,
    for_some_time,
    from_an_asynchronous_generator,
]
WAYS: list[Callable[[Idents], Any]] = [
    lambda rig: rig.pool.connect("u", rig.backend),
    lambda rig: rig.pool.select("u", [rig.backend]),
    lambda rig: rig.pool.group([rig.backend]).connect("u"),
]


@pytest.fixture(params=[None, 1], ids=["exclusive", "shared"])
def rig(request: pytest.FixtureRequest) -> Idents:
    return Idents(None, limit=1, slots=request.param)


def ending(rig: Idents) -> None:
    gc.collect()
    rig.turn()
    assert rig.pool.counters().forgotten == 0
    assert rig.pool.status([rig.backend])[0].waiting == 0
    assert rig.pool.status([rig.backend])[0].leased == 0
    rig.end()


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_waits_is_cancelled_and_says_what_to_write(
    rig: Idents, way: Any, manner: Any
) -> None:
    held = rig.lease("u")
    with pytest.raises(RuntimeError, match=ADVICE):
        run_in_a_loop(manner(way(rig)))
    assert rig.pool.status([rig.backend])[0].waiting == 0
    held.release()
    del held
    ending(rig)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("way", WAYS)
def test_a_lease_that_was_given_at_once_comes_home(rig: Idents, way: Any, manner: Any) -> None:
    rig.lease("u").release()
    with pytest.raises(RuntimeError, match=ADVICE):
        run_in_a_loop(manner(way(rig)))
    assert rig.pool.status([rig.backend])[0].idle == 1
    assert rig.pool.counters().releases == 2
    ending(rig)


CALLS: dict[str, Callable[[Idents], Any]] = {
    "run": lambda rig: rig.pool.run("u", rig.backend, lambda protocol: Deferred()),
    "run in a group": lambda rig: rig.pool.group([rig.backend]).run("u", lambda protocol: 1),
    "warm": lambda rig: rig.pool.warm(rig.backend, 1, ident="u"),
    "warm a group": lambda rig: rig.pool.group([rig.backend]).warm(1, ident="u"),
    "drain": lambda rig: rig.pool.drain(rig.backend),
    "close": lambda rig: rig.pool.close(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("manner", [plainly, by_another_task, for_some_time])
def test_any_other_call_says_what_to_write_and_holds_nothing(
    rig: Idents, call: str, manner: Any
) -> None:
    rig.lease("u").release()
    with pytest.raises(RuntimeError, match=r"await kolus\.aio\.wait"):
        run_in_a_loop(manner(CALLS[call](rig)))
    rig.turn()
    assert rig.pool.status([rig.backend])[0].leased == 0
    ending(rig)


def test_what_is_connected_for_it_serves_the_next_request(rig: Idents) -> None:
    rig.fake.accept(after=1)
    with pytest.raises(RuntimeError, match=ADVICE):
        run_in_a_loop(plainly(rig.pool.connect("u", rig.backend)))
    rig.clock.advance(1)
    rig.lease("u").release()
    assert rig.fake.attempts == 1
    ending(rig)


def test_a_request_that_failed_says_what_to_write_and_logs_nothing(rig: Idents) -> None:
    rig.fake.refuse(always=True)
    with pytest.raises(RuntimeError, match=ADVICE):
        run_in_a_loop(plainly(rig.pool.connect("u", rig.backend)))
    ending(rig)


def test_as_a_future_it_can_be_awaited(rig: Idents) -> None:
    async def task() -> None:
        loop = asyncio.get_running_loop()
        lease = await rig.pool.connect("u", rig.backend).asFuture(loop)
        async with lease:
            assert lease.held

    run_in_a_loop(task())
    ending(rig)


def test_a_coroutine_that_twisted_runs_may_be_called_from_a_task(rig: Idents) -> None:
    rig.lease("u").release()

    async def use() -> str:
        async with rig.pool.connect("u", rig.backend) as lease:
            return str(lease.ident)

    async def task() -> str:
        return await Deferred.fromCoroutine(use()).asFuture(asyncio.get_running_loop())

    assert run_in_a_loop(task()) == "u"
    ending(rig)
