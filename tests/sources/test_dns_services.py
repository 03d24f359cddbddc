"""C{DNSSource} with SRV records: the backends, their weights, and the records left out."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.names import dns

from tests.rigs.names import SERVICE, Answer, Ask, a, asking, server_failed, srv

ask = pytest.fixture(asking)


def test_services_bring_their_ports_and_weights(ask: Ask) -> None:
    asked = ask(services=[srv("one.test", 6379, weight=30), srv("two.test", 6380)], kind="srv")
    assert asked.endpoints == [["tcp:one.test:6379", "tcp:two.test:6380"]]
    assert [each.weight for each in asked.told[0]] == [30, 1]


def test_services_of_the_lowest_priority_number_alone_are_told(ask: Ask) -> None:
    asked = ask(
        services=[
            srv("spare.test", priority=20),
            srv("b.test", priority=10),
            srv("a.test", priority=10),
        ],
        kind="srv",
    )
    assert asked.endpoints == [["tcp:a.test:6379", "tcp:b.test:6379"]]


def test_services_of_the_next_priority_are_told_when_the_lower_are_gone(ask: Ask) -> None:
    asked = ask(services=[srv("a.test"), srv("spare.test", priority=20)], kind="srv")
    asked.names.services = [srv("spare.test", priority=20)]
    asked.ask_again()
    assert asked.endpoints[1] == ["tcp:spare.test:6379"]


def test_a_service_without_weight_gets_a_small_one(ask: Ask) -> None:
    asked = ask(services=[srv("a.test", weight=0), srv("b.test", weight=1)], kind="srv")
    assert [each.weight for each in asked.told[0]] == [0.1, 1]


def test_another_weight_is_a_change(ask: Ask) -> None:
    asked = ask(services=[srv("a.test", weight=1)], kind="srv")
    asked.names.services = [srv("a.test", weight=2)]
    asked.ask_again()
    assert [backends[0].weight for backends in asked.told] == [1, 2]


def test_a_service_that_is_answered_twice_is_told_once_with_its_largest_weight(ask: Ask) -> None:
    asked = ask(services=[srv("a.test", weight=each) for each in (2, 3, 0)], kind="srv")
    assert asked.endpoints == [["tcp:a.test:6379"]]
    assert asked.told[0][0].weight == 3


@pytest.mark.parametrize("records", [[srv(b".")], [srv(b"")], [a("10.0.0.7")]])
def test_an_answer_without_a_service_is_an_error(ask: Ask, records: Answer) -> None:
    asked = ask(services=records, kind="srv")
    assert asked.told == []
    assert "no such records" in asked.log[0]


# Records that cannot be used

UNUSABLE = {
    "port": (
        srv("a.test", port=0),
        "0 1 0 a.test: not a client endpoint string: 'tcp:a.test:0' (its port is not "
        "from 1 to 65535)",
    ),
    "target": (
        srv(b"caf\xe9.test"),
        r"0 1 6379 caf\xe9.test: 'ascii' codec can't decode byte 0xe9 in position 3: "
        "ordinal not in range(128)",
    ),
}


@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE)
def test_a_service_that_cannot_be_used_is_left_out_and_named(
    ask: Ask, bad: tuple[dns.RRHeader, str]
) -> None:
    record, why = bad
    asked = ask(services=[srv("b.test"), record, srv("c.test")], kind="srv")
    assert asked.endpoints == [["tcp:b.test:6379", "tcp:c.test:6379"]]
    assert asked.log == [f"a record of {SERVICE} is left out: {why}"]


def test_an_answer_with_a_service_that_is_left_out_is_good_for_its_time_to_live(ask: Ask) -> None:
    asked = ask(services=[srv("a.test", port=0), srv("b.test")], kind="srv")
    assert asked.delay == 30.0


def test_a_service_that_is_left_out_is_logged_once_until_it_is_another(ask: Ask) -> None:
    asked = ask(services=[srv("a.test", port=0), srv("b.test")], kind="srv")
    for answer in (
        [srv("b.test"), srv("a.test", port=0)],
        server_failed(),
        [srv("b.test"), srv("a.test", port=0), srv("c.test", port=0)],
        [srv("b.test")],
        [srv("b.test"), srv("a.test", port=0)],
    ):
        asked.names.services = answer
        asked.ask_again()
    left_out = [line.split(": ")[1] for line in asked.log if "left out" in line]
    assert left_out == ["0 1 0 a.test", "0 1 0 c.test", "0 1 0 a.test"]
    assert asked.endpoints == [["tcp:b.test:6379"]]


def test_services_of_the_next_priority_are_told_when_all_of_the_lower_are_left_out(
    ask: Ask,
) -> None:
    asked = ask(services=[srv("a.test", port=0), srv("spare.test", priority=20)], kind="srv")
    assert asked.endpoints == [["tcp:spare.test:6379"]]


def test_an_answer_of_nothing_but_what_cannot_be_used_is_an_error_that_names_it(ask: Ask) -> None:
    asked = ask(services=[srv("a.test")], kind="srv")
    asked.names.services = [srv("a.test", port=0), srv("b.test", port=0), srv(b".")]
    asked.ask_again()
    assert asked.endpoints == [["tcp:a.test:6379"]]
    (line,) = asked.log
    assert line.startswith(
        f"looking up the srv of {SERVICE} failed: no record can be used: 0 1 0 a"
    )
    assert "; 0 1 0 b.test: " in line
    assert line.endswith("; the last good list stays")


def test_a_service_that_another_kind_of_endpoint_cannot_have_is_left_out(ask: Ask) -> None:
    def local(host: str, port: int) -> str:
        if host != "a.test":
            raise ValueError("it is elsewhere")
        return f"unix:/run/{port}"

    asked = ask(services=[srv("a.test"), srv("b.test")], kind="srv", make_endpoint=local)
    assert asked.endpoints == [["unix:/run/6379"]]
    assert asked.log == [f"a record of {SERVICE} is left out: 0 1 6379 b.test: it is elsewhere"]


@pytest.mark.parametrize(
    ("made", "why"),
    [(KeyError, "KeyError: 'b.test'"), (None, "make_endpoint must return a string")],
)
def test_a_service_of_which_no_endpoint_is_made_is_left_out(ask: Ask, made: Any, why: str) -> None:
    def make(host: str, port: int) -> Any:
        if host == "a.test":
            return f"tcp:{host}:{port}"
        if made is None:
            return None
        raise made(host)

    asked = ask(services=[srv("a.test"), srv("b.test")], kind="srv", make_endpoint=make)
    assert asked.endpoints == [["tcp:a.test:6379"]]
    assert why in asked.log[0]
    assert asked.delay == 30.0


def test_a_source_that_is_started_again_tells_the_log_again_what_it_leaves_out(ask: Ask) -> None:
    asked = ask(services=[srv("a.test", port=0), srv("b.test")], kind="srv")
    asked.source.stop()
    asked.start()
    assert len(asked.log) == 2
