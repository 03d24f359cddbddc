"""Rule 10, on a clock: the error of a failed connect keeps no variables of the caller alive."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from kolus import Backend, ConnectFailed, Policy, Pool
from kolus.balance import fill_first
from kolus.health import Attempts
from kolus.support import drop_frames, traceback_text
from kolus.testing import FakeBackend, result_of
from tests.conftest import LoggedFailures


def raises(protocol: Protocol) -> None:
    raise ValueError("the hook raises")


def raises_from(protocol: Protocol) -> None:
    try:
        raises(protocol)
    except ValueError as error:
        raise RuntimeError("it cannot log in") from error


def raises_while_handling(protocol: Protocol) -> None:
    try:
        raises(protocol)
    finally:
        raise RuntimeError("it cannot clean up")


def raises_several(protocol: Protocol) -> None:
    try:
        raises(protocol)
    except ValueError as error:
        raise ExceptionGroup("it cannot log in", [error]) from None


def fails_in_one_of_several(protocol: Protocol) -> Deferred[Any]:
    try:
        raises(protocol)
    except ValueError:
        return gatherResults([fail(Failure())], consumeErrors=True)
    return Deferred()


async def fails_as_a_coroutine(protocol: Protocol) -> None:
    raises(protocol)


HOOKS = [
    raises,
    raises_from,
    raises_while_handling,
    raises_several,
    fails_in_one_of_several,
    fails_as_a_coroutine,
]


@pytest.fixture(params=[None, 1], ids=["exclusive", "shared"])
def slots(request: pytest.FixtureRequest) -> int | None:
    slots: int | None = request.param
    return slots


class Failing:
    """A pool of three backends; once its first lease is out, C{hook} prepares connections."""

    def __init__(
        self,
        hook: Callable[[Any], object] = raises,
        protocol: Callable[[], Any] = Protocol,
        **policy: Any,
    ) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(3)]
        self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, "abc", strict=True)
        ]
        self.pool: Pool[Any] = Pool(
            self.clock,
            protocol,
            policy=Policy(prepare=self._prepare, backoff=None, **policy),
        )
        self._hook = hook
        self._fails = False

    def _prepare(self, protocol: Any) -> object:
        return self._hook(protocol) if self._fails else None

    def ask_and_forget(self) -> Deferred[Any]:
        """Ask two backends, which fail, and drop a lease of the third that was held meanwhile."""
        lease = result_of(self.pool.connect("us", self.backends[2]))
        self._fails = True
        asked = self.pool.select("us", self.backends[:2], fill_first)
        assert lease.held
        return asked

    def attempts(self, backend: Backend) -> Attempts:
        record = self.pool._managers.records.find(backend.key)
        assert record is not None
        return record.attempts

    def forgotten(self) -> int:
        gc.collect()
        self.clock.advance(0)
        return self.pool.counters().forgotten


@pytest.mark.parametrize("hook", HOOKS)
def test_a_lease_that_was_held_while_a_hook_failed_is_reclaimed(hook: Any, slots: Any) -> None:
    rig = Failing(hook, slots=slots)
    rig.ask_and_forget().addErrback(lambda failure: None)
    assert rig.attempts(rig.backends[0]).last_error is not None
    assert rig.forgotten() == 1


@pytest.mark.parametrize("hook", HOOKS)
def test_nor_does_a_request_that_was_tried_in_vain_keep_it(hook: Any, slots: Any) -> None:
    rig = Failing(hook, slots=slots)
    tried: list[Any] = []
    asked = rig.ask_and_forget().addErrback(lambda failure: tried.append(failure.value.tried))
    for backend in rig.backends[:2]:
        rig.attempts(backend).succeeded(before=1)
    assert asked.called
    assert list(tried[0]) == rig.backends[:2]
    assert rig.forgotten() == 1


def test_nor_does_the_error_that_its_caller_keeps(slots: Any) -> None:
    rig = Failing(slots=slots)
    kept: list[Failure] = []
    rig.ask_and_forget().addErrback(kept.append)
    assert kept[0].check(ConnectFailed)
    assert rig.forgotten() == 1


def test_nor_does_a_protocol_that_cannot_be_made(
    slots: Any, logged_failures: LoggedFailures
) -> None:
    made: list[Protocol] = []

    def build() -> Protocol:
        made.append(Protocol())
        if len(made) > 1:
            raise ValueError("the factory raises")
        return made[0]

    rig = Failing(protocol=build, slots=slots)
    rig.ask_and_forget().addErrback(lambda failure: None)
    assert rig.forgotten() == 1


def test_a_loss_that_all_connections_share_refers_to_nobody(slots: Any) -> None:
    lost = Failure(ConnectionLost())

    class Lost(Protocol):
        def connectionMade(self) -> None:
            if rig._fails:
                transport: Any = self.transport
                transport._lose(lost)

    rig = Failing(protocol=Lost, slots=slots)
    rig.ask_and_forget().addErrback(lambda failure: None)
    assert rig.attempts(rig.backends[0]).last_error is lost.value
    assert lost.value.__traceback__ is None
    assert rig.forgotten() == 1


def test_an_error_whose_attributes_cannot_be_set_is_let_go_like_others(slots: Any) -> None:
    @dataclass(frozen=True)
    class Frozen(Exception):
        code: int

    def refuses(protocol: Protocol) -> None:
        raise Frozen(530)

    rig = Failing(refuses, slots=slots)
    with pytest.raises(ConnectFailed) as caught:
        result_of(rig.ask_and_forget())
    assert caught.value.reason == Frozen(530)
    assert caught.value.reason.__traceback__ is None
    assert [each.connecting for each in rig.pool.status(rig.backends[:2])] == [0, 0]


# What is told of it


@pytest.mark.parametrize("hook", HOOKS)
def test_where_a_hook_failed_is_logged_when_it_does(hook: Any, log_events: list[LogEvent]) -> None:
    rig = Failing(hook)
    rig.ask_and_forget().addErrback(lambda failure: None)
    told = [formatEvent(each) or "" for each in log_events if "where" in each]
    assert len(told) == 2  # of each backend, once
    assert all("raises\n" in each for each in told)


def test_the_causes_of_a_failure_stay_and_say_what_they_did() -> None:
    rig = Failing(raises_from)
    with pytest.raises(ConnectFailed, match="RuntimeError: it cannot log in") as caught:
        result_of(rig.ask_and_forget())
    assert caught.value.__cause__ is caught.value.reason
    assert repr(caught.value.reason.__cause__) == "ValueError('the hook raises')"


def test_an_attempt_that_is_refused_is_one_line_in_the_log(log_events: list[LogEvent]) -> None:
    rig = Failing()
    rig.fakes[0].refuse()
    rig.pool.connect("us", rig.backends[0]).addErrback(lambda failure: None)
    (logged,) = [formatEvent(each) or "" for each in log_events if "where" in each]
    assert logged.endswith("refuses. (1 in a row)")


def test_what_the_caller_is_handling_keeps_its_traceback() -> None:
    rig = Failing()
    try:
        raises(Protocol())
    except ValueError:
        rig.ask_and_forget().addErrback(lambda failure: None)
        shown_by_caller = traceback.format_exc()
    assert "in raises\n" in shown_by_caller
    reason = rig.attempts(rig.backends[0]).last_error
    assert reason is not None
    assert reason.__context__ is None


def test_errors_that_are_each_others_causes_are_let_go() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    try:
        raise two
    except ValueError:
        assert "one" in traceback_text(one) + traceback_text(two)
    drop_frames(one)
    assert two.__traceback__ is None
