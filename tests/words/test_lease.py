"""Rule 10, on a clock: settling a lease, and reclaiming a forgotten one."""

from __future__ import annotations

import gc
import math
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from kolus import Backend, Draining, LeaseError, Pool
from kolus.support import steady
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Managed
from tests.rigs.suspending import SuspendingMachine

# 10: async with, and leases that were forgotten


def run(coroutine: Any) -> Any:
    return result_of(Deferred.fromCoroutine(coroutine))


def test_the_end_of_the_block_releases_the_lease() -> None:
    rig = Managed()

    async def use() -> None:
        async with await rig.ask() as lease:
            assert lease.held

    run(use())
    assert rig.numbers() == (1, 0, 0, 1, 0)


def test_an_exception_inside_async_with_means_finished() -> None:
    rig = Managed()

    async def use() -> None:
        async with await rig.ask():
            raise RuntimeError("half an answer")

    with pytest.raises(RuntimeError, match="half an answer"):
        run(use())
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 2, 0)


def test_cancelling_inside_async_with_means_finished() -> None:
    rig = Managed()
    never: Deferred[None] = Deferred()

    async def use() -> None:
        async with await rig.ask():
            await never

    using = Deferred.fromCoroutine(use())
    using.cancel()
    with pytest.raises(CancelledError):
        result_of(using)
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 2, 0)


def test_settling_inside_async_with_is_allowed() -> None:
    rig = Managed()

    async def use() -> None:
        async with await rig.ask() as lease:
            lease.finished()

    run(use())
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 2, 0)


def test_a_forgotten_lease_is_reclaimed_counted_and_logged(log_events: list[LogEvent]) -> None:
    rig = Managed(limit=1)
    rig.lease()
    gc.collect()
    waiting = rig.ask()
    rig.turn()
    assert result_of(waiting).held
    assert rig.manager.counters.forgotten == 1
    (event,) = [each for each in log_events if "forgotten" in str(each["log_format"])]
    assert event["ident"] == "us"
    assert event["origin"] == ""


def test_a_lease_that_is_finalized_in_another_thread_leaves_the_clock_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reactor = SuspendingMachine(monkeypatch).reactor
    called: list[object] = []
    monkeypatch.setattr(reactor, "callFromThread", lambda *what: called.append(what), raising=False)
    pool = Pool(reactor, Protocol)
    lease = result_of(pool.connect("us", Backend(FakeBackend(Clock()))))
    clock = steady(reactor)
    clock.look_at = -math.inf  # whoever looks may have to move the reactor's calls
    lease.__del__()
    assert clock.look_at == -math.inf
    assert called


def test_a_lease_is_settled_once_if_its_block_is_thrown_away_with_it() -> None:
    rig = Managed(limit=1)
    lease = rig.lease()

    async def use() -> None:
        async with lease:
            await Deferred()

    block = use()
    block.send(None)
    lease.__del__()  # the garbage collector may finalize it before the block
    block.close()
    waiting = rig.ask()
    rig.turn()
    assert result_of(waiting).held
    assert (rig.manager.counters.forgotten, rig.manager.counters.finishes) == (1, 0)


def test_in_debug_mode_a_forgotten_lease_is_logged_with_where_it_was_leased(
    log_events: list[LogEvent],
) -> None:
    rig = Managed(debug=True)
    rig.lease()
    gc.collect()
    rig.turn()
    (event,) = [each for each in log_events if "forgotten" in str(each["log_format"])]
    assert "test_in_debug_mode_a_forgotten_lease" in event["origin"]


def test_a_lease_that_a_cancelled_caller_dropped_is_reclaimed() -> None:
    rig = Managed(limit=1)
    never: Deferred[None] = Deferred()

    async def use() -> None:
        lease = await rig.ask()
        await never
        lease.release()

    using = Deferred.fromCoroutine(use())
    using.cancel()
    using.addErrback(lambda failure: failure.trap(CancelledError))
    gc.collect()
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 1, 0)


def test_settling_twice_is_an_error_and_changes_nothing() -> None:
    rig = Managed()
    lease = rig.lease()
    lease.release()
    for again in (lease.release, lease.finished):
        with pytest.raises(LeaseError, match="settled before"):
            again()
    with pytest.raises(LeaseError, match="<Lease of fake for 'us', settled> was asked for"):
        _ = lease.protocol
    assert rig.numbers() == (1, 0, 0, 1, 0)


@pytest.mark.parametrize("flag", [ValueError("broken"), "no", 1, None])
def test_a_flag_that_is_neither_true_nor_false_is_refused_and_settles_nothing(flag: Any) -> None:
    rig = Managed()
    lease = rig.lease()
    with pytest.raises(TypeError, match="failed must be True or False"):
        lease.finished(failed=flag)
    with pytest.raises(TypeError, match="keep_slot must be True or False"):
        lease.detach(keep_slot=flag)
    assert lease.held
    lease.release()
    assert rig.numbers() == (1, 0, 0, 1, 0)


def test_a_request_of_a_draining_manager_says_so() -> None:
    rig = Managed()
    held = rig.lease()
    rig.manager.drain()
    with pytest.raises(Draining, match="gives no new leases"):
        rig.lease()
    with pytest.raises(Draining):
        rig.manager.try_connect("us")
    held.release()
