"""Which clients a listener accepts, and how many."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from kolus.tunnel.client_limits import ClientLimits
from kolus.tunnel.settings import ListenerSettings
from kolus.tunnel.token_bucket import TokenBucket

WELCOME = ("", "")


def limits(clock: Clock | None = None, **settings: Any) -> ClientLimits:
    return ClientLimits(clock or Clock(), ListenerSettings(**settings))


def test_by_default_everybody_is_welcome() -> None:
    limited = limits()
    for _ in range(1000):
        limited.arrived()
    assert limited.accept_in() == 0
    assert limited.refusal("10.0.0.7") == limited.refusal(None) == WELCOME


def test_at_the_most_clients_the_next_waits_until_one_leaves() -> None:
    limited = limits(max_clients=2)
    limited.arrived()
    assert limited.accept_in() == 0
    limited.arrived()
    assert limited.accept_in() == math.inf
    limited.left()
    assert limited.accept_in() == 0


def test_more_new_clients_than_may_come_in_a_second_wait_for_their_turn() -> None:
    clock = Clock()
    limited = limits(clock, max_new_clients=4)
    for _ in range(4):
        assert limited.accept_in() == 0
        limited.arrived()
        limited.left()
    assert limited.accept_in() == pytest.approx(0.25)
    clock.advance(0.25)
    assert limited.accept_in() == 0
    limited.arrived()
    assert limited.accept_in() == pytest.approx(0.25)
    clock.advance(3600)
    for _ in range(4):
        assert limited.accept_in() == 0
        limited.arrived()
    assert limited.accept_in() > 0


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=60))
def test_no_more_tokens_are_given_than_the_rate_allows(rate: int, pauses: list[float]) -> None:
    now = 0.0
    bucket = TokenBucket(lambda: now, rate)
    given = 0
    for pause in pauses:
        now += pause
        while bucket.wait() <= 0:
            bucket.take()
            given += 1
        assert given <= rate * (now + 1) + 1e-6


@pytest.mark.parametrize(
    ("settings", "host", "why"),
    [
        ({"allow": ("10.0.0.0/8",)}, "10.0.0.7", ""),
        ({"allow": ("10.0.0.0/8",)}, "11.0.0.7", "allow"),
        ({"allow": ("10.0.0.0/8",)}, None, "allow"),
        ({"allow": ("unix",)}, None, ""),
        ({"deny": ("10.0.0.0/8",)}, "11.0.0.7", ""),
        ({"deny": ("10.0.0.0/8",)}, "10.0.0.7", "deny"),
        ({"allow": ("10.0.0.0/8",), "deny": ("10.0.0.7",)}, "10.0.0.7", "deny"),
        ({"deny": ("10.0.0.0/8",)}, "::ffff:10.0.0.7", "deny"),
    ],
)
def test_networks_are_allowed_and_denied(
    settings: dict[str, Any], host: str | None, why: str
) -> None:
    assert limits(**settings).refusal(host)[0] == why


def test_one_address_has_so_many_clients_and_no_more() -> None:
    limited = limits(max_clients_per_address=2)
    for _ in range(2):
        assert limited.refusal("10.0.0.7") == WELCOME
        limited.admitted("10.0.0.7")
    assert limited.refusal("10.0.0.7")[0] == "max_clients_per_address"
    assert "= 2 connections" in limited.refusal("10.0.0.7")[1]
    assert limited.refusal("10.0.0.8") == limited.refusal(None) == WELCOME
    limited.departed("10.0.0.7")
    assert limited.refusal("10.0.0.7") == WELCOME


def test_nothing_is_kept_of_addresses_that_are_gone() -> None:
    limited = limits(max_clients_per_address=1)
    for number in range(100):
        limited.admitted(f"10.0.0.{number}")
        limited.departed(f"10.0.0.{number}")
    assert not limited._by_address


def test_other_limits_count_who_is_there_already() -> None:
    limited = limits()
    told: list[float] = []
    limited.changed = lambda: told.append(limited.accept_in())
    for _ in range(2):
        limited.arrived()
        limited.admitted("10.0.0.7")
    limited.change(ListenerSettings(max_clients=2, max_clients_per_address=2, deny=("10.0.0.8",)))
    assert told == [math.inf]
    assert limited.refusal("10.0.0.7")[0] == "max_clients_per_address"
    assert limited.refusal("10.0.0.8")[0] == "deny"
    limited.departed("10.0.0.7")
    limited.left()
    assert limited.refusal("10.0.0.7") == WELCOME
    limited.change(ListenerSettings())
    assert told == [math.inf, 0, 0]
