"""C{DNSSource} on a clock: the backends, the time of the next lookup, and failures.

The fake resolver answers with C{twisted.names}' own records and errors. C{tests/net} tests the real
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import TimeoutError, succeed
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.error import (
    AuthoritativeDomainError,
    DNSQueryRefusedError,
    DNSUnknownError,
    DomainError,
)

from kolus.backend import Backend
from kolus.sources import DNSSource
from kolus.testing import FakeBackend
from tests.conftest import LoggedFailures
from tests.rigs.names import (
    NAME,
    Answer,
    Ask,
    Names,
    a,
    aaaa,
    alias,
    asking,
    no_such_name,
    server_failed,
)

MINUTE = 60.0

ask = pytest.fixture(asking)


# Addresses


def test_the_addresses_of_both_kinds_are_told_with_the_port(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=[aaaa("2001:db8::7")])
    assert asked.endpoints == [["tcp:10.0.0.7:6379", r"tcp:2001\:db8\:\:7:6379"]]


@pytest.mark.parametrize(
    ("kind", "endpoints"),
    [("ipv4", ["tcp:10.0.0.7:6379"]), ("ipv6", [r"tcp:\:\:7:6379"])],
)
def test_one_kind_alone_may_be_asked_for(ask: Ask, kind: str, endpoints: list[str]) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=[aaaa("::7")], kind=kind)
    assert asked.endpoints == [endpoints]
    assert len(asked.names.asked) == 1


@pytest.mark.parametrize("none", [(), no_such_name(), DomainError(), AuthoritativeDomainError()])
def test_a_name_may_have_addresses_of_one_kind_only(ask: Ask, none: Answer) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=none)
    assert asked.endpoints == [["tcp:10.0.0.7:6379"]]
    assert asked.log == []


def test_the_answer_behind_an_alias_is_told(ask: Ask) -> None:
    asked = ask(v4=[alias("elsewhere.test"), a("10.0.0.7")], v6=[alias("elsewhere.test")])
    assert asked.endpoints == [["tcp:10.0.0.7:6379"]]


def test_an_address_that_is_answered_twice_is_told_once(ask: Ask) -> None:
    assert ask(v4=[a("10.0.0.7"), a("10.0.0.7")]).endpoints == [["tcp:10.0.0.7:6379"]]


def test_the_endpoints_may_be_of_another_kind(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")], make_endpoint=lambda host, port: f"ssl:{host}:{port}")
    assert asked.endpoints == [["ssl:10.0.0.7:6379"]]


def test_a_name_is_asked_for_without_its_last_dot_and_with_short_time_outs() -> None:
    names = Names()
    source = DNSSource(Clock(), f"{NAME}.", 80, kind="ipv4", resolver=names)  # type: ignore[arg-type]
    source.start(lambda backends: None)
    source.stop()
    assert names.asked == [(NAME, (1, 3, 6))]


# Changes


def test_another_order_of_the_same_addresses_is_no_change(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7"), a("10.0.0.8")])
    asked.names.v4 = [a("10.0.0.8"), a("10.0.0.7")]
    asked.ask_again()
    assert len(asked.names.asked) == 4
    assert len(asked.told) == 1


def test_an_address_that_comes_and_one_that_goes_are_told(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")])
    for answer in ([a("10.0.0.7"), a("10.0.0.8")], [a("10.0.0.8")]):
        asked.names.v4 = answer
        asked.ask_again()
    assert asked.endpoints[1:] == [
        ["tcp:10.0.0.7:6379", "tcp:10.0.0.8:6379"],
        ["tcp:10.0.0.8:6379"],
    ]


def test_a_backend_that_stays_is_equal_to_itself_before(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")])
    asked.names.v4 = [a("10.0.0.7"), a("10.0.0.8")]
    asked.ask_again()
    assert asked.told[0][0] in asked.told[1]


# Times to live


def test_it_is_asked_again_when_the_first_record_expires(ask: Ask) -> None:
    asked = ask(v4=[alias("x", 40), a("10.0.0.7", 50)], v6=[aaaa("::7", 20), aaaa("::8", 70)])
    assert asked.delay == 20.0


@pytest.mark.parametrize(("ttl", "delay"), [(0, 5.0), (4, 5.0), (7, 7.0), (10, 9.0), (2**31, 9.0)])
def test_times_to_live_are_kept_between_the_least_and_the_most(
    ask: Ask, ttl: int, delay: float
) -> None:
    asked = ask(v4=[a("10.0.0.7", ttl)], least_ttl=5.0, most_ttl=9.0)
    assert asked.delay == delay


# Failures

NONE = "there is no such name, or it has no such records"

FAILURES = {
    "no such name": (no_such_name(), NONE),
    "no records": ((), NONE),
    "an alias alone": ([alias("elsewhere.test")], NONE),
    "SERVFAIL": (server_failed(), "the name server failed"),
    "refused": (DNSQueryRefusedError(dns.Message()), "the name server refused"),
    "another code": (DNSUnknownError(dns.Message()), "DNSUnknownError"),
    "no answer": (TimeoutError([dns.Query(NAME)]), "no answer in time"),
    "no descriptor": (OSError(24, "Too many"), "OSError: [Errno 24] Too many"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failure_keeps_what_was_told_and_is_logged(ask: Ask, failure: tuple[Answer, str]) -> None:
    answer, why = failure
    asked = ask(v4=[a("10.0.0.7")])
    asked.names.v4 = asked.names.v6 = answer
    asked.ask_again()
    assert asked.endpoints == [["tcp:10.0.0.7:6379"]]
    assert asked.log == [
        f"looking up the addresses of {NAME} failed: {why}; the last good list stays"
    ]


def test_a_failure_from_the_beginning_is_logged_and_asked_again(ask: Ask) -> None:
    asked = ask(v4=server_failed(), v6=server_failed())
    assert asked.log[0].endswith("; there is no list yet")
    asked.names.v4, asked.names.v6 = [a("10.0.0.7")], ()
    asked.ask_again()
    assert asked.endpoints == [["tcp:10.0.0.7:6379"]]


@pytest.mark.parametrize(
    ("heard", "expected"), [(True, [1.0, 2.0, 4.0, 4.0]), (False, [1.0, 2.0, 2.0, 2.0])]
)
def test_failures_in_a_row_are_asked_again_with_back_off_and_soon_while_there_is_no_list(
    ask: Ask, heard: bool, expected: list[float]
) -> None:
    if heard:
        asked = ask(v4=[a("10.0.0.7")], v6=())
        asked.names.v4, asked.names.v6 = server_failed(), server_failed()
        asked.ask_again()
    else:
        asked = ask(v4=server_failed(), v6=server_failed())
    delays = []
    for _ in range(4):
        delays.append(asked.delay)
        asked.ask_again()
    assert delays == expected


def test_failures_in_a_row_are_logged_once_until_it_works_again(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")])
    for answer in (server_failed(), no_such_name(), [a("10.0.0.7")], no_such_name()):
        asked.names.v4 = answer
        asked.ask_again()
    assert [line.partition(NAME)[2].partition(";")[0] for line in asked.log] == [
        " failed: the name server failed",
        " succeed again",
        f" failed: {NONE}",
    ]


def test_back_off_begins_anew_after_an_answer(ask: Ask) -> None:
    asked = ask(v4=server_failed())
    for answer in (server_failed(), [a("10.0.0.7")], server_failed()):
        asked.names.v4 = answer
        asked.ask_again()
    assert asked.delay == 1.0


def test_one_kind_of_address_is_told_while_the_other_keeps_failing(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=server_failed())
    assert asked.endpoints == [["tcp:10.0.0.7:6379"]]
    assert asked.delay == 1.0


def test_a_kind_of_address_that_fails_for_once_keeps_its_last_answer(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=[aaaa("::7")])
    asked.names.v4, asked.names.v6 = [a("10.0.0.8")], server_failed()
    asked.ask_again()
    assert asked.endpoints[1] == ["tcp:10.0.0.8:6379", r"tcp:\:\:7:6379"]


def test_a_kind_of_address_that_is_no_more_loses_its_last_answer(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=[aaaa("::7")])
    asked.names.v6 = ()
    asked.ask_again()
    assert asked.endpoints[1] == ["tcp:10.0.0.7:6379"]


def test_an_answer_of_nothing_does_not_forget_the_last_good_one(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=[aaaa("::7")])
    for v4, v6 in (((), ()), ([a("10.0.0.7")], server_failed())):
        asked.names.v4, asked.names.v6 = v4, v6
        asked.ask_again()
    assert len(asked.told) == 1


GARBAGE = {
    "nothing": (None, "TypeError: the resolver returned None, not lists of records"),
    "no lists": ((), r"TypeError: the resolver returned (), not lists of records"),
    "no record": (([5], [], []), "TypeError: the resolver returned 5 instead of a record"),
    "a record of nothing": (
        ([dns.RRHeader(NAME, dns.A)], [], []),
        "AttributeError: 'NoneType' object has no attribute 'dottedQuad'",
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_resolver_that_answers_no_records_is_a_failure(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, garbage: tuple[Any, str]
) -> None:
    answer, why = garbage
    asked = ask(v4=[a("10.0.0.7")], kind="ipv4")
    with monkeypatch.context() as patch:
        patch.setattr(asked.names, "lookupAddress", lambda name, timeout: succeed(answer))
        asked.ask_again()
    assert asked.log == [f"looking up the ipv4 of {NAME} failed: {why}; the last good list stays"]
    asked.names.v4 = [a("10.0.0.8")]
    asked.ask_again()
    assert asked.endpoints[1:] == [["tcp:10.0.0.8:6379"]]


NO_ENDPOINT = {
    "it raises": (lambda host, port: {}[host], "KeyError: '10.0.0.7'"),
    "nothing": (lambda host, port: None, "not None"),
    "a number": (lambda host, port: 5, "not 5"),
    "an object": (
        lambda host, port: FakeBackend(Clock()),
        "TypeError: make_endpoint must return a string for 10.0.0.7 and 6379, not <FakeBackend",
    ),
    "another string": (lambda host, port: host, "ValueError: not a client endpoint string"),
}


@pytest.mark.parametrize("mistake", NO_ENDPOINT.values(), ids=NO_ENDPOINT)
def test_an_address_of_which_no_endpoint_is_made_is_a_failure(
    ask: Ask, mistake: tuple[Callable[[str, int], Any], str]
) -> None:
    make, why = mistake
    makers: list[Callable[[str, int], Any]] = [make]
    asked = ask(v4=[a("10.0.0.7")], make_endpoint=lambda host, port: makers[-1](host, port))
    assert why in asked.log[0]
    makers.append(lambda host, port: f"ssl:{host}:{port}")
    asked.ask_again()
    assert asked.endpoints == [["ssl:10.0.0.7:6379"]]


def test_two_addresses_that_are_made_one_endpoint_are_one_backend(ask: Ask) -> None:
    asked = ask(
        v4=[a("10.0.0.7"), a("10.0.0.8")], make_endpoint=lambda host, port: f"unix:/run/{port}"
    )
    assert asked.endpoints == [["unix:/run/6379"]]


def test_a_question_that_is_never_answered_is_given_up(ask: Ask) -> None:
    asked = ask(v4=None, v6=[aaaa("::7")])
    assert asked.told == []
    asked.clock.advance(MINUTE)
    assert asked.names.cancelled == 1
    assert "no answer in time" in asked.log[0]
    assert asked.endpoints == [[r"tcp:\:\:7:6379"]]


def test_a_listener_that_raises_is_logged_and_told_the_same_list_again(
    logged_failures: LoggedFailures,
) -> None:
    clock, names = Clock(), Names()
    names.v4 = [a("10.0.0.7")]
    told: list[Sequence[Backend]] = []

    def listen(backends: Sequence[Backend]) -> None:
        told.append(backends)
        if len(told) == 1:
            raise ZeroDivisionError

    source = DNSSource(clock, NAME, 80, resolver=names)  # type: ignore[arg-type]
    source.start(listen)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    for _ in range(2):
        clock.advance(MINUTE)
    assert told == [(Backend("tcp:10.0.0.7:80"),)] * 2
    source.stop()


# Stopping


def test_a_stop_amid_the_questions_cancels_them(ask: Ask) -> None:
    asked = ask(v4=None, v6=None)
    asked.source.stop()
    assert asked.names.cancelled == 2
    assert asked.clock.getDelayedCalls() == []
    assert asked.log == []


def test_a_stop_between_questions_asks_no_more(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")])
    asked.source.stop()
    asked.clock.advance(MINUTE)
    assert len(asked.names.asked) == 2


def test_one_that_is_started_again_tells_the_list_again(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")])
    asked.source.stop()
    asked.source.stop()
    asked.start()
    assert len(asked.told) == 2


def test_what_was_known_before_a_stop_is_not_told_after_it(ask: Ask) -> None:
    asked = ask(v4=[a("10.0.0.7")], v6=[aaaa("::7")])
    asked.source.stop()
    asked.names.v4, asked.names.v6 = server_failed(), [aaaa("::8")]
    asked.start()
    assert asked.endpoints[1] == [r"tcp:\:\:8:6379"]


def test_a_listener_may_stop_the_source() -> None:
    clock, names = Clock(), Names()
    names.v4 = [a("10.0.0.7")]
    source = DNSSource(clock, NAME, 80, resolver=names)  # type: ignore[arg-type]
    source.start(lambda backends: source.stop())
    assert clock.getDelayedCalls() == []


# What is refused


@pytest.mark.parametrize(
    ("arguments", "options", "why"),
    [
        (("10.0.0.7", 80), {}, "is an address"),
        ((5, 80), {}, "a DNS name is a string"),
        ((NAME,), {}, "port must be a whole number"),
        ((NAME, "80"), {}, "port must be a whole number"),
        ((NAME, 80), {"kind": "srv"}, "leave out the port 80"),
        ((NAME, 80), {"kind": "mx"}, "kind must be one of addresses, ipv4, ipv6, srv"),
        ((NAME, 80), {"least_ttl": 0}, "least_ttl must be a number of seconds above 0, not 0"),
        ((NAME, 80), {"least_ttl": 9, "most_ttl": 8}, "least_ttl=9 must not be above most_ttl=8"),
        (
            (NAME, 80),
            {"most_ttl": float("inf")},
            "most_ttl must be a number of seconds above 0, not inf",
        ),
        ((NAME, 80), {"most_ttl": 10**400}, "most_ttl must be a number of seconds above 0, not 1"),
        ((NAME, 80), {"least_ttl": "5"}, "least_ttl must be a number of seconds above 0, not .5"),
        (
            (NAME, 80),
            {"least_ttl": True},
            "least_ttl must be a number of seconds above 0, not True",
        ),
        ((NAME, 80), {"servers": []}, "no name servers"),
        ((NAME, 80), {"servers": ["127.0.0.1"]}, "must be .address, port."),
        ((NAME, 80), {"servers": [("dns.test", 53)]}, "must be .address, port."),
        ((NAME, 80), {"servers": [("127.0.0.1", 0)]}, "from 1 to 65535"),
        ((NAME, 80), {"servers": [("::1", 53)], "resolver": Names()}, "not both"),
    ],
)
def test_what_cannot_be_used_is_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        DNSSource(reactor, *arguments, **options)


def test_without_a_resolver_a_clock_is_not_enough() -> None:
    with pytest.raises(ValueError, match="need a reactor with UDP"):
        DNSSource(Clock(), NAME, 80)
