"""What the bench of the clients counts, and what it tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.bench.peers.figures import CALLERS, rate_and_cpu, table, verdicts
from tests.bench.peers.worker import Load


def told(rate: float, cpu: float, failures: int = 0) -> dict[str, Any]:
    return {"rate": rate, "cpu": cpu, "failures": failures, "opened": 10, "longest": 0.5}


TURNS = [told(100, 9), told(200, 5), told(400, 6), told(300, 4)]


def test_a_load_is_told_by_a_turn_that_a_quarter_of_the_turns_were_better_than() -> None:
    assert rate_and_cpu(50, TURNS) == (300, 5)


def test_a_load_whose_server_was_killed_is_told_by_the_medians() -> None:
    assert rate_and_cpu(0, TURNS) == (250, 5.5)
    figures = {("http", "kolus", 0): [told(200, 5, 3), told(900, 1, 0), told(100, 9, 8)]}
    row = "| kolus | 50, server killed | 200 | 5 | 10 | 500 | 3 |"
    assert row in table(figures, [("http", "kolus")])


def test_each_number_of_callers_of_a_kind_of_server_has_its_row() -> None:
    figures = {("postgres", "kolus", callers): [told(100, 9)] for callers in CALLERS["postgres"]}
    rows = [line for line in table(figures, [("postgres", "kolus")]) if line.startswith("| kolus")]
    assert [row.split(" | ")[1] for row in rows] == ["1", "10", "50", "200", "500"]


@pytest.mark.parametrize(
    ("cpu", "verdict"),
    [
        (90, "-10 (-10 to -10) | +20 (+20 to +20) | ahead"),
        (115, "+15 (+15 to +15) | +20 (+20 to +20) | met: behind by no more than its protocol is"),
        (125, "+25 (+25 to +25) | +20 (+20 to +20) | missed by 5 us"),
    ],
)
def test_a_peer_may_be_ahead_by_what_the_protocols_differ_in(cpu: float, verdict: str) -> None:
    figures = {
        ("http", "kolus", 50): [told(150, cpu)],
        ("http", "no pool, Agent", 50): [told(1, 110)],
        ("http", "no pool, aiohttp", 50): [told(1, 90)],
        ("http", "aiohttp", 50): [told(100, 100)],
    }
    assert list(verdicts(figures))[2:] == [f"| http, aiohttp | 50 | +50 % | {verdict} |"]


def test_a_peer_of_twisted_may_not_be_ahead() -> None:
    figures = {
        ("http", "kolus", 1): [told(100, 101)],
        ("http", "HTTPConnectionPool", 1): [told(100, 100)],
    }
    row = "| http, HTTPConnectionPool | 1 | +0 % | +1 (+1 to +1) |  | missed by 1 us |"
    assert list(verdicts(figures))[2:] == [row]


@pytest.mark.parametrize(
    ("cpus", "verdict"),
    [
        ([98, 213, 304, 404], "+4 (+4 to +4) |  | missed by 4 us"),
        ([98, 199, 304, 404], "+2 (-1 to +4) |  | even: what is left is within the noise"),
        ([98, 199, 299, 404], "-1 (-1 to -1) |  | ahead"),
    ],
)
def test_a_difference_is_one_of_the_same_turn_and_noise_is_not_called_a_miss(
    cpus: list[float], verdict: str
) -> None:
    figures = {
        ("http", "kolus", 1): [told(100, cpu) for cpu in cpus],
        ("http", "HTTPConnectionPool", 1): [told(100, cpu) for cpu in (100, 200, 300, 400)],
    }
    assert list(verdicts(figures))[2:] == [f"| http, HTTPConnectionPool | 1 | +0 % | {verdict} |"]


def test_only_calls_that_were_answered_are_calls() -> None:
    outcomes = iter([None, ValueError(), None, ValueError()])

    async def call() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    async def pause() -> None:
        if load.failures == 2:
            load._until = 0.0

    load = Load(call, 60.0)
    load.begin()
    over = Deferred.fromCoroutine(load.caller(pause))
    assert over.called
    figures = json.loads(load.told())
    assert (load.calls, figures["failures"], figures["errors"]) == (2, 2, {"ValueError": 2})
