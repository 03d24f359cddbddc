"""Connecting by name, on a Clock: the lookups, and the address with which each connect begins."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import (
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface.verify import verifyObject

from kolus.endpoints import NamedEndpoint
from kolus.testing.results import failure_of, result_of
from tests.rigs.named_rig import LATE, ONE, THREE, TWO, Resolver, Rig, fresh

rig = pytest.fixture(fresh)


def test_it_is_an_endpoint(rig: Rig) -> None:
    assert verifyObject(IStreamClientEndpoint, rig.endpoint)
    assert repr(rig.endpoint) == "<NamedEndpoint a.test:80>"


# Resolving


def test_the_name_is_asked_of_the_resolver_that_the_reactor_has_now(rig: Rig) -> None:
    other = Resolver()
    other.answers = [ONE]
    rig.reactor.installNameResolver(other)
    assert rig.begins_at() == ONE
    assert [(each.name, each.port) for each in other.asked] == [("a.test", 80)]
    assert rig.resolver.asked == []


def test_a_name_that_has_only_ipv6_addresses_connects(rig: Rig) -> None:
    rig.resolver.answers = ["2001:db8::1"]
    assert rig.begins_at() == "2001:db8::1"


def test_an_address_keeps_its_scope(rig: Rig) -> None:
    made = rig.connect()
    receiver = rig.resolver.asked[0]._receiver
    receiver.addressResolved(IPv6Address("TCP", "fe80::1", 80, scopeID=2))
    receiver.resolutionComplete()
    assert rig.tried == ["fe80::1%2"]
    rig.accept()
    result_of(made)


def test_what_is_no_address_or_one_twice_is_left_out(rig: Rig) -> None:
    made = rig.connect()
    rig.resolver.asked[0]._receiver.addressResolved(UNIXAddress("/run/x.sock"))
    rig.resolver.asked[0].answer(ONE, ONE)
    rig.refuse()
    failure_of(ConnectionRefusedError, made)
    assert rig.tried == [ONE]


def test_addresses_are_used_for_15_seconds_and_no_longer(rig: Rig) -> None:
    rig.resolver.answers = [ONE]
    rig.begins_at()
    rig.reactor.advance(14.9)
    rig.resolver.answers = [TWO]
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 1
    rig.reactor.advance(0.1)
    assert rig.begins_at() == TWO


def test_a_failed_resolution_is_not_remembered(rig: Rig) -> None:
    rig.resolver.answers = []
    error = failure_of(DNSLookupError, rig.connect())
    assert str(error) == "DNS lookup failed: a.test: no address."
    rig.resolver.answers = [ONE]
    assert rig.begins_at() == ONE


def test_two_connects_at_once_share_one_question(rig: Rig) -> None:
    one, two = rig.connect(), rig.connect()
    (question,) = rig.resolver.asked
    question.answer(ONE, TWO)
    assert rig.tried == [ONE, TWO]
    rig.accept(0)
    result_of(one)
    rig.accept(1)
    result_of(two)


def test_all_who_share_a_question_fail_with_it(rig: Rig) -> None:
    one, two = rig.connect(), rig.connect()
    rig.resolver.asked[0].answer()
    failure_of(DNSLookupError, one)
    failure_of(DNSLookupError, two)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "a\0b"])
def test_what_no_resolver_could_look_up_fails_at_once(rig: Rig, host: str) -> None:
    made = NamedEndpoint(rig.reactor, host, 80).connect(rig.factory)
    failure_of(DNSLookupError, made)
    assert rig.resolver.asked == []


def test_a_resolver_that_raises_fails_the_connect(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of threads")

    monkeypatch.setattr(rig.resolver, "resolveHostName", broken)
    error = failure_of(DNSLookupError, rig.connect())
    assert "RuntimeError: out of threads" in str(error)


def test_two_endpoints_know_nothing_of_each_other(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    assert rig.begins_at() == ONE
    rig.endpoint = NamedEndpoint(rig.reactor, "a.test", 80)
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 2


# Choosing


def test_each_connect_begins_at_another_address(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    assert [rig.begins_at() for _ in range(6)] == [ONE, TWO, THREE] * 2


@pytest.mark.parametrize("second", [[ONE, TWO], [TWO, ONE]])
def test_connects_are_spread_whatever_the_order_of_the_answers(rig: Rig, second: list[str]) -> None:
    begun = []
    for answer in ([ONE, TWO], second) * 3:
        rig.resolver.answers = answer
        begun.append(rig.begins_at())
        rig.reactor.advance(15)
    assert begun == [ONE, TWO] * 3


def test_the_next_address_is_tried_as_soon_as_one_fails(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.refuse()
    rig.refuse(kind=NoRouteError)
    assert rig.tried == [ONE, TWO, THREE]
    rig.accept()
    result_of(made)


def test_the_next_address_is_tried_beside_one_that_does_not_answer(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.advance(LATE - 0.01)
    assert rig.tried == [ONE]
    rig.reactor.advance(0.01)
    assert rig.tried == [ONE, TWO]
    rig.refuse(1)
    assert rig.tried == [ONE, TWO, THREE]
    assert rig.stopped == []
    rig.accept(0)
    result_of(made)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_first_that_connects_wins_and_the_others_are_ended(rig: Rig, first: int) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.pump([LATE, LATE])
    assert rig.accept(first)
    assert result_of(made).transport is not None
    assert rig.stopped == [each for each in rig.tried if each != rig.tried[first]]


def test_the_protocol_is_built_for_the_winner_alone(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.reactor.advance(LATE)
    assert rig.accept(1)
    assert rig.factory.built_for == [IPv4Address("TCP", TWO, 80)]
    result_of(made)


def test_one_that_does_not_answer_is_waited_for_when_all_others_have_failed(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.reactor.advance(LATE)
    rig.refuse(1)
    rig.reactor.advance(20)
    assert rig.stopped == []
    rig.accept(0)
    result_of(made)


def test_an_address_that_failed_comes_last_until_the_name_is_resolved_anew(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.refuse()
    rig.accept()
    result_of(made)
    assert [rig.begins_at() for _ in range(4)] == [THREE, TWO, THREE, TWO]
    rig.reactor.advance(15)
    assert rig.begins_at() == ONE


def test_an_address_that_was_overtaken_comes_last_too(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.pump([LATE, LATE])
    rig.accept(1)
    result_of(made)
    assert [rig.begins_at() for _ in range(3)] == [TWO, THREE, TWO]


def test_an_address_that_failed_is_tried_when_the_others_fail(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.refuse()
    rig.refuse()
    failure_of(ConnectionRefusedError, made)
    assert rig.begins_at() == ONE
    assert rig.begins_at() == ONE


# When all addresses have failed


def test_when_all_addresses_have_failed_the_name_is_resolved_again(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.refuse()
    rig.refuse()
    failure_of(ConnectionRefusedError, made)
    rig.resolver.answers = [ONE, TWO, THREE]
    assert rig.begins_at() == THREE
    assert rig.begins_at() == THREE  # the others have failed
    assert len(rig.resolver.asked) == 2


def test_when_all_addresses_have_failed_and_the_name_too_these_are_tried_again(rig: Rig) -> None:
    rig.resolver.answers = [ONE]
    made = rig.connect()
    rig.refuse()
    failure_of(ConnectionRefusedError, made)
    rig.resolver.answers = []
    assert rig.begins_at() == ONE
    rig.reactor.advance(15)
    failure_of(DNSLookupError, rig.connect())
