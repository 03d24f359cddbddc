"""Connecting by name, when it fails: what the failure says, and the time limit."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    NoProtocol,
    NoRouteError,
    TimeoutError,
)
from twisted.internet.protocol import Protocol

from kolus.endpoints import NamedEndpoint
from kolus.testing.results import failure_of
from tests.rigs.named_rig import LATE, ONE, THREE, TWO, Rig, fresh

rig = pytest.fixture(fresh)


def test_of_one_address_the_failure_is_its_own(rig: Rig) -> None:
    rig.resolver.answers = [ONE]
    made = rig.connect()
    rig.refuse()
    error = failure_of(ConnectionRefusedError, made)
    assert str(error) == "Connection was refused by other side."


def test_of_several_addresses_the_failure_names_each_and_why(rig: Rig) -> None:
    rig.resolver.answers = [ONE, "2001:db8::1"]
    made = rig.connect()
    rig.refuse()
    rig.refuse(kind=NoRouteError)
    error = failure_of(ConnectError, made)
    assert type(error) is ConnectError
    assert str(error) == (
        "An error occurred while connecting: a.test:80 (10.0.0.1: ConnectionRefusedError: "
        "Connection was refused by other side.; 2001:db8::1: NoRouteError: No route to host.)."
    )


def test_if_all_addresses_refuse_the_failure_is_a_refusal(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.refuse()
    rig.refuse()
    error = failure_of(ConnectionRefusedError, made)
    assert "(10.0.0.1: " in str(error)
    assert "; 10.0.0.2: " in str(error)


def test_the_time_limit_holds_for_all_addresses_together(rig: Rig) -> None:
    rig.endpoint = NamedEndpoint(rig.reactor, "a.test", 80, timeout=0.4)
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.refuse()
    rig.reactor.advance(LATE)
    rig.reactor.advance(0.4 - LATE)
    assert rig.stopped == [TWO, THREE]
    error = failure_of(TimeoutError, made)
    assert "a.test:80 took longer than 0.4 s (10.0.0.1: ConnectionRefusedError" in str(error)
    assert "; 10.0.0.2: no answer; 10.0.0.3: no answer)" in str(error)


def test_the_time_limit_may_leave_an_address_untried(rig: Rig) -> None:
    rig.endpoint = NamedEndpoint(rig.reactor, "a.test", 80, timeout=0.2)
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.reactor.advance(0.2)
    assert "(10.0.0.1: no answer; 10.0.0.2: not tried)" in str(failure_of(TimeoutError, made))
    assert [rig.begins_at() for _ in range(2)] == [TWO, TWO]


def test_the_time_limit_holds_for_the_resolution(rig: Rig) -> None:
    made = rig.connect()
    rig.reactor.advance(30)
    error = failure_of(TimeoutError, made)
    assert "a.test:80 took longer than 30 s (its name was not resolved)" in str(error)
    assert rig.resolver.asked[0].cancelled == 1


def test_what_the_factory_raises_is_the_failure_and_no_other_address_is_tried(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(addr: object) -> Protocol:
        raise RuntimeError("no protocol today")

    monkeypatch.setattr(rig.factory, "buildProtocol", broken)
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    assert not rig.accept()
    failure_of(RuntimeError, made)
    assert rig.tried == [ONE]


def test_a_factory_that_builds_nothing_is_the_failure(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.factory, "buildProtocol", lambda addr: None)
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    assert not rig.accept()
    failure_of(NoProtocol, made)
    assert rig.tried == [ONE]


def test_the_callers_factory_hears_of_each_attempt_and_its_end(rig: Rig) -> None:
    rig.resolver.answers = [ONE]
    made = rig.connect()
    factory: Any = rig.reactor.tcpClients[0][2]
    factory.doStart()  # as a real connector would
    assert rig.factory.numPorts == 1
    factory.doStop()
    assert rig.factory.numPorts == 0
    rig.refuse()
    failure_of(ConnectionRefusedError, made)
