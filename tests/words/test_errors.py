"""The messages of errors: the backend, the numbers, the cause, and what to do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

import kolus
from kolus import (
    Backend,
    Closed,
    ConnectFailed,
    KolusError,
    LeaseTimeout,
    Policy,
    Pool,
    PoolFull,
    Rejected,
)
from kolus.config import ConfigError
from kolus.errors import MachineFault, describe
from kolus.sources.entries import BadEntry
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of


@pytest.mark.parametrize("name", ["PoolFull", "WrongIdent", "Draining", "NoBackend"])
def test_what_the_pool_says_no_to_at_once_is_rejected(name: str) -> None:
    assert issubclass(getattr(kolus, name), Rejected)


@pytest.mark.parametrize(
    "name", ["Rejected", "LeaseTimeout", "ConnectFailed", "Closed", "LeaseError"]
)
def test_every_error_is_of_one_family(name: str) -> None:
    assert issubclass(getattr(kolus, name), KolusError)


def test_a_failed_connect_names_the_backend_the_reason_and_the_next_attempt() -> None:
    error = ConnectFailed(Backend("tcp:a:1", name="cache"), OSError("no route"), 2.5)
    assert str(error) == (
        "cannot connect to cache: OSError: no route; the next attempt is due in 2.5 s"
    )
    assert error.__cause__ is error.reason


def test_an_error_without_a_message_is_named_by_its_class() -> None:
    assert describe(ValueError()) == "ValueError"
    assert describe(ValueError("bad")) == "ValueError: bad"


@pytest.mark.parametrize(
    "told",
    [
        "connection to server at 10.0.0.7 failed: user=me password=hunter2",
        "cannot reach postgresql://me:hunter2@10.0.0.7/shop",
        "{'password': 'hunter2'}",
        "pwd=hunter2; timeout=5",
    ],
)
def test_an_error_that_tells_a_password_is_told_without_it(
    told: str, log_events: list[LogEvent]
) -> None:
    clock = Clock()
    backend = Backend(FakeBackend(clock).refuse(reason=OSError(told), always=True), name="shop")
    pool: Pool[Any] = Pool(clock, Protocol)
    error = failure_of(ConnectFailed, pool.connect("us", backend))
    other = failure_of(ConnectFailed, pool.group([backend]).connect("us"))
    logged = [formatEvent(each) for each in log_events]
    assert logged
    texts = [str(error), str(other), str(pool.explain()), *logged]
    assert not [each for each in texts if "hunter2" in each]
    assert "***" in str(error)


def test_a_lease_time_out_is_twisteds_time_out() -> None:
    assert issubclass(LeaseTimeout, DeferredTimeout)


BACKEND = Backend("tcp:a:1", name="cache", limit=3)
TRIED = {BACKEND: OSError("no route"), "tcp:b:1": ConnectionRefusedError("no")}
ERRORS = [
    Closed("the pool is closed"),
    PoolFull("it is full"),
    MachineFault("too few files", OSError(24, "too many"), False),
    ConnectFailed(BACKEND, ConnectionRefusedError("no"), 2.5, TRIED, but="prepare failed"),
    ConfigError(["a: is wrong", "b: is, too"]),
    BadEntry(7, "it is no address"),
]


def pickled(error: Any) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_copied_or_pickled_error_tells_the_same(error: Any, again: Callable[[Any], Any]) -> None:
    error.add_note("at night")
    copied = again(error)
    assert type(copied) is type(error)
    assert (str(copied), copied.args) == (str(error), error.args)
    assert repr(vars(copied)) == repr(vars(error))
    assert repr(copied.__cause__) == repr(error.__cause__)


def timed_out() -> LeaseTimeout:
    clock = Clock()
    pool: Pool[Protocol] = Pool(clock, Protocol, policy=Policy(limit=1))
    backend = Backend(FakeBackend(clock), name="cache")
    held = result_of(pool.connect("us", backend))
    asked = pool.connect("us", backend, timeout=1)
    clock.advance(1)
    with pytest.raises(LeaseTimeout) as caught:
        result_of(asked)
    held.release()
    return caught.value


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_a_copied_time_out_has_the_same_status(again: Callable[[Any], Any]) -> None:
    error = timed_out()
    copied = again(error)
    assert copied.status is error.status
    assert (str(copied), copied.waited) == (str(error), error.waited)


def test_the_status_of_a_pickled_time_out_has_no_manager() -> None:
    error = timed_out()
    error.status = replace(error.status, backend=BACKEND)  # a fake backend stays in its process
    assert error.status.manager is not None
    copied = pickled(error)
    assert isinstance(copied, LeaseTimeout)
    assert (str(copied), copied.waited) == (str(error), error.waited)
    assert copied.status == replace(error.status, manager=None)
