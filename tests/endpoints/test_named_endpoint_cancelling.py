"""Connecting by name, when it is cancelled or the answer is late: nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import HostnameAddress
from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Protocol

from kolus.testing.results import failure_of, result_of
from tests.rigs.named_rig import LATE, ONE, THREE, TWO, Rig, fresh

rig = pytest.fixture(fresh)


def test_cancelling_ends_the_resolution(rig: Rig) -> None:
    made = rig.connect()
    made.cancel()
    error = failure_of(ConnectingCancelledError, made)
    assert error.address == HostnameAddress(b"a.test", 80)
    assert error.__notes__ == ["its name was not resolved"]
    assert rig.resolver.asked[0].cancelled == 1
    rig.resolver.asked[0].answer(ONE)
    assert rig.tried == []
    rig.resolver.answers = [TWO]
    assert rig.begins_at() == TWO


def test_cancelling_ends_all_attempts(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.advance(LATE)
    made.cancel()
    error = failure_of(ConnectingCancelledError, made)
    assert error.__notes__ == ["10.0.0.1: no answer; 10.0.0.2: no answer; 10.0.0.3: not tried"]
    assert rig.stopped == [ONE, TWO]
    assert rig.reactor.getDelayedCalls() == []
    rig.reactor.advance(60)
    assert rig.tried == [ONE, TWO]


def test_cancelling_one_of_two_leaves_the_other_its_question(rig: Rig) -> None:
    one, two = rig.connect(), rig.connect()
    one.cancel()
    failure_of(ConnectingCancelledError, one)
    assert rig.resolver.asked[0].cancelled == 0
    rig.resolver.asked[0].answer(ONE)
    rig.accept()
    result_of(two)


def test_cancelling_while_the_protocol_is_built_sends_the_connection_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()

    def build(addr: object) -> Protocol:
        made.cancel()
        return Protocol()

    monkeypatch.setattr(rig.factory, "buildProtocol", build)
    assert not rig.accept()
    failure_of(ConnectingCancelledError, made)
    assert rig.tried == [ONE]


def test_cancelling_while_the_protocol_is_connected_closes_the_connection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.resolver.answers = [ONE]
    made = rig.connect()
    transports: list[Any] = []

    class Fickle(Protocol):
        def connectionMade(self) -> None:
            transports.append(self.transport)
            made.cancel()

    monkeypatch.setattr(rig.factory, "buildProtocol", lambda addr: Fickle())
    rig.accept()
    failure_of(ConnectingCancelledError, made)
    assert transports[0].disconnecting


def test_a_question_that_cannot_be_cancelled_is_shared_with_the_next_connect(rig: Rig) -> None:
    made = rig.connect()
    (question,) = rig.resolver.asked
    question.can_be_cancelled = False
    made.cancel()
    failure_of(ConnectingCancelledError, made)
    again = rig.connect()
    assert rig.resolver.asked == [question]
    question.answer(ONE)
    rig.accept()
    result_of(again)


def test_a_question_that_never_ends_is_not_shared_after_15_seconds(rig: Rig) -> None:
    made = rig.connect()
    rig.resolver.asked[0].can_be_cancelled = False
    made.cancel()
    failure_of(ConnectingCancelledError, made)
    rig.reactor.advance(15)
    rig.resolver.answers = [ONE]
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 2


def test_a_late_answer_serves_those_who_still_wait_for_it_and_whoever_comes(rig: Rig) -> None:
    one = rig.connect()
    rig.reactor.advance(15)
    two = rig.connect()
    late, asked = rig.resolver.asked
    late.answer(ONE)
    rig.accept()
    result_of(one)
    assert rig.begins_at() == ONE
    asked.answer(TWO)
    rig.accept()
    result_of(two)
    assert rig.tried == [ONE, ONE, TWO]


def test_a_late_failure_takes_nothing_from_what_is_known(rig: Rig) -> None:
    one = rig.connect()
    rig.reactor.advance(15)
    rig.resolver.answers = [ONE]
    assert rig.begins_at() == ONE
    rig.resolver.asked[0].answer()
    failure_of(DNSLookupError, one)
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 2
