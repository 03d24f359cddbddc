"""Rule 13, on a clock: prepare, check and reset, and hooks that are broken."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from kolus import ConnectFailed
from kolus.testing import NotFired, result_of
from tests.conftest import LoggedFailures
from tests.rigs.pools import Managed

# 13: prepare, check, reset


async def coroutine_hook(protocol: Protocol) -> None:
    await succeed(None)


def deferred_hook(protocol: Protocol) -> Deferred[None]:
    return succeed(None)


def plain_hook(protocol: Protocol) -> None:
    pass


HOOKS = [coroutine_hook, deferred_hook, plain_hook]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("step", ["prepare", "check", "reset"])
def test_a_hook_may_be_plain_or_a_deferred_or_a_coroutine(step: str, hook: Any) -> None:
    rig = Managed(check_after=0, **{step: hook})
    rig.lease().release()
    assert rig.lease().reused


def raises(protocol: Protocol) -> None:
    raise RuntimeError("the hook is broken")


def fails(protocol: Protocol) -> Deferred[None]:
    return fail(RuntimeError("the hook is broken"))


async def raises_later(protocol: Protocol) -> None:
    raise RuntimeError("the hook is broken")


BROKEN_HOOKS = [raises, fails, raises_later]


@pytest.mark.parametrize("hook", BROKEN_HOOKS)
def test_a_prepare_that_fails_is_a_failed_connect(hook: Any) -> None:
    rig = Managed(prepare=hook)
    with pytest.raises(ConnectFailed, match="RuntimeError: the hook is broken"):
        rig.lease()
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 2, 0)
    assert not rig.fake.connections


def test_a_prepare_that_never_answers_costs_its_connection() -> None:
    rig = Managed(prepare=lambda protocol: Deferred(), prepare_timeout=3)
    asked = rig.ask()
    rig.clock.advance(3)
    with pytest.raises(ConnectFailed, match="prepare took longer than 3 s"):
        result_of(asked)
    rig.turn()
    assert not rig.fake.connections


def test_a_connection_lost_while_it_is_prepared_is_a_failed_connect() -> None:
    rig = Managed(prepare=lambda protocol: Deferred())
    asked = rig.ask()
    rig.fake.connections[0].reset()
    with pytest.raises(ConnectFailed, match="ConnectionLost"):
        result_of(asked)
    assert rig.numbers() == (0, 0, 0, 2, 0)


def test_nobody_has_a_connection_before_it_is_prepared() -> None:
    answer: Deferred[None] = Deferred()
    rig = Managed(prepare=lambda protocol: answer)
    asked = rig.ask()
    assert rig.numbers() == (0, 0, 1, 1, 1)
    with pytest.raises(NotFired):
        result_of(asked)
    answer.callback(None)
    assert result_of(asked).held


def test_a_check_runs_only_after_check_after_seconds_idle() -> None:
    checked: list[Protocol] = []
    rig = Managed(check=checked.append, check_after=10)
    rig.lease().release()
    rig.clock.advance(9.5)
    rig.lease().release()
    assert checked == []
    rig.clock.advance(10)
    lease = rig.lease()
    assert checked == [lease.protocol]


@pytest.mark.parametrize("hook", [*BROKEN_HOOKS, lambda protocol: False])
def test_a_check_that_fails_costs_its_connection_and_is_reported(
    hook: Any, log_events: list[LogEvent]
) -> None:
    rig = Managed(check=hook, check_after=10)
    rig.lease().release()
    rig.clock.advance(10)
    lease = rig.lease()
    assert not lease.reused
    assert rig.fake.attempts == 2
    (event,) = [each for each in log_events if each.get("hook") == "check"]
    assert event["error"] in ("RuntimeError: the hook is broken", "ValueError: it returned False")


@pytest.mark.parametrize("hook", BROKEN_HOOKS)
def test_the_error_for_a_new_connection_tells_what_its_check_failed_with(hook: Any) -> None:
    rig = Managed(check_after=0, check=hook)
    error = result_of(rig.ask().addErrback(lambda failure: str(failure.value)))
    assert "connected to fake, but its check failed: RuntimeError: the hook is broken" in error


def test_a_check_that_never_answers_costs_its_connection() -> None:
    rig = Managed(limit=1, check=lambda protocol: Deferred(), check_after=10, check_timeout=1)
    rig.lease().release()
    rig.clock.advance(10)
    asked = rig.ask()
    assert rig.numbers() == (0, 1, 0, 0, 1)
    rig.clock.advance(1)
    rig.turn()
    assert not result_of(asked).reused


def test_one_waiter_has_one_connection_checked() -> None:
    checked: list[Protocol] = []
    rig = Managed(check=lambda protocol: (checked.append(protocol), Deferred())[1], check_after=10)
    leases = [rig.lease(), rig.lease()]
    for lease in leases:
        lease.release()
    rig.clock.advance(10)
    asked = rig.ask()
    assert len(checked) == 1
    assert rig.numbers() == (1, 1, 0, 0, 1)
    asked.cancel()
    asked.addErrback(lambda failure: None)


def test_a_check_whose_requester_gave_up_serves_the_next() -> None:
    answer: Deferred[None] = Deferred()
    rig = Managed(limit=1, check=lambda protocol: answer, check_after=10)
    rig.lease().release()
    rig.clock.advance(10)
    gone = rig.ask()
    gone.cancel()
    gone.addErrback(lambda failure: None)
    answer.callback(None)
    assert rig.numbers() == (1, 0, 0, 0, 0)


def test_try_connect_gives_no_connection_that_wants_a_check() -> None:
    rig = Managed(check=plain_hook, check_after=10)
    rig.lease().release()
    rig.clock.advance(10)
    assert rig.manager.try_connect("us") is None
    assert rig.numbers()[0] == 1


def test_reset_runs_on_release_before_anybody_else_has_the_connection() -> None:
    answer: Deferred[None] = Deferred()
    rig = Managed(limit=1, reset=lambda protocol: answer)
    rig.lease().release()
    asked = rig.ask()
    assert rig.numbers() == (0, 1, 0, 0, 1)
    answer.callback(None)
    assert result_of(asked).reused


def test_reset_does_not_run_on_a_connection_that_is_finished() -> None:
    reset: list[Protocol] = []
    rig = Managed(reset=reset.append)
    rig.lease().finished()
    assert reset == []


@pytest.mark.parametrize("hook", BROKEN_HOOKS)
def test_a_reset_that_fails_costs_its_connection_and_is_reported(
    hook: Any, log_events: list[LogEvent]
) -> None:
    rig = Managed(reset=hook)
    rig.lease().release()
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 2, 0)
    assert [each["error"] for each in log_events if each.get("hook") == "reset"] == [
        "RuntimeError: the hook is broken"
    ]


def test_a_reset_that_never_answers_costs_its_connection() -> None:
    rig = Managed(limit=1, reset=lambda protocol: Deferred(), reset_timeout=5)
    rig.lease().release()
    rig.clock.advance(5)
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 1, 0)


def test_a_hook_that_swallows_its_cancellation_is_not_waited_for() -> None:
    clock: list[Any] = []

    async def stubborn(protocol: Protocol) -> None:
        while True:
            try:
                await deferLater(clock[0], 1000)
            except BaseException:
                await Deferred()

    rig = Managed(prepare=stubborn, prepare_timeout=3)
    clock.append(rig.clock)
    asked = rig.ask()
    rig.clock.advance(3)
    with pytest.raises(ConnectFailed):
        result_of(asked)


def test_a_hook_whose_cancelling_raises_is_contained(logged_failures: LoggedFailures) -> None:
    def cancel(_: Deferred[None]) -> None:
        raise RuntimeError("cannot cancel")

    rig = Managed(prepare=lambda protocol: Deferred(cancel), prepare_timeout=3)
    asked = rig.ask()
    rig.clock.advance(3)
    with pytest.raises(ConnectFailed, match="prepare took longer"):
        result_of(asked)
    assert [str(each) for each in logged_failures.flush(RuntimeError)] == ["cannot cancel"]
