"""C{Recorder}, rule 23, on a clock: exceptions of user code are contained; observers; counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from kolus import ConnectFailed, LeaseTimeout
from kolus.events import (
    Connected,
    ConnectFailure,
    Finished,
    Forgotten,
    Leased,
    Lost,
    Released,
    Retired,
)
from kolus.testing import result_of
from tests.conftest import LoggedFailures
from tests.rigs.pools import Managed

# 23: what a user's code raises is contained


class Broken(Protocol):
    """Raises wherever it is called."""

    def connectionMade(self) -> None:
        raise RuntimeError("connectionMade is broken")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        raise RuntimeError("connectionLost is broken")


def test_a_protocol_that_raises_costs_its_connection(logged_failures: LoggedFailures) -> None:
    rig = Managed(Broken)
    with pytest.raises(ConnectFailed, match="connectionMade is broken"):
        rig.lease()
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 2, 0)
    assert len(logged_failures.flush(RuntimeError)) == 2


class Choking(Protocol):
    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("dataReceived is broken")


def test_a_protocol_that_raises_on_what_it_receives_costs_its_connection(
    logged_failures: LoggedFailures,
) -> None:
    rig = Managed(Choking, limit=1)
    lease = rig.lease()
    waiting = rig.ask()
    rig.fake.connections[0].speak(b"hello")
    other = result_of(waiting)
    assert not other.reused
    lease.release()
    other.release()
    assert rig.numbers() == (1, 0, 0, 0, 0)
    assert len(logged_failures.flush(RuntimeError)) == 1


def test_a_protocol_that_cannot_be_made_is_a_failed_connect() -> None:
    def make() -> Protocol:
        raise RuntimeError("no protocol today")

    rig = Managed(make)
    with pytest.raises(ConnectFailed, match="no protocol today"):
        rig.lease()
    assert rig.numbers() == (0, 0, 0, 2, 0)


def test_an_observer_that_raises_is_dropped_after_being_reported(
    logged_failures: LoggedFailures,
) -> None:
    rig = Managed(observed=True)

    def broken(event: object) -> None:
        raise RuntimeError("an observer is broken")

    rig.manager.observers.insert(0, broken)
    rig.lease().release()
    assert len(logged_failures.flush(RuntimeError)) == 1
    assert [type(each) for each in rig.events] == [Connected, Leased, Released]


async def async_observer(event: object) -> None:
    raise AssertionError("nobody waits for it")


def generating_observer(event: object) -> Iterator[None]:
    yield


@pytest.mark.parametrize("broken", [async_observer, generating_observer])
def test_an_observer_that_does_nothing_until_it_is_awaited_is_dropped_after_being_reported(
    broken: Any,
    logged_failures: LoggedFailures,
) -> None:
    rig = Managed(observed=True)
    rig.manager.observers.insert(0, broken)
    rig.lease().release()
    (error,) = logged_failures.flush(TypeError)
    assert "nobody waits for that: make it a plain function" in str(error)
    assert [type(each) for each in rig.events] == [Connected, Leased, Released]


def test_what_an_observer_returns_is_of_no_concern_otherwise() -> None:
    rig = Managed(observed=True)
    goes_on: Deferred[None] = Deferred()
    told: list[Any] = []
    rig.manager.observers.insert(0, lambda event: told.append(event) or goes_on)
    rig.lease().release()
    assert told == rig.events


def test_observers_are_told_what_happens() -> None:
    rig = Managed(observed=True, limit=1)
    rig.lease().release()
    rig.clock.advance(2)
    rig.fake.connections[0].reset()
    rig.lease().finished()
    rig.turn()
    rig.lease()
    rig.turn()
    rig.fake.refuse()
    with pytest.raises(ConnectFailed):
        rig.lease()
    assert [type(each) for each in rig.events] == [
        *(Connected, Leased, Released, Lost),
        *(Connected, Leased, Finished, Retired),
        *(Connected, Leased, Forgotten, Retired),
        ConnectFailure,
    ]
    assert isinstance(rig.events[3], Lost)
    assert isinstance(rig.events[3].reason, ConnectionLost)


def test_counters_tell_what_has_happened() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    asked = rig.ask(1)
    rig.clock.advance(1)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    held.release()
    rig.lease().finished()
    rig.turn()
    counters = rig.manager.counters
    assert (counters.leases, counters.releases, counters.finishes) == (2, 1, 1)
    assert (counters.connects, counters.closes, counters.timeouts) == (1, 1, 1)
