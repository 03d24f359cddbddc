"""The bench: its arithmetic, its table, and its exit status."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest
from twisted.internet.defer import Deferred

from kolus.testing import result_of
from tests.bench.core import insert, parse, verdict
from tests.bench.measure import Case, Figures, Meter, Spread, measure
from tests.bench.table import ROWS, Row, missed, table
from tests.rigs.patience import PATIENCE

ROOT = Path(__file__).parents[2]

GOALS = """
    idle: `connect` and `release` on a manager, awaited|<= 1 F
    the same over TLS, against TCP|<= 1.2 x
    the same over a `WrappingFactory`, against TCP|<= 1.2 x
    the same over a process, against TCP|<= 1.2 x
    idle, callback style|<= 1.8 F
    idle, `pool.connect(ident, backend)`, above the manager's|<= 0.15 F
    idle, `try_connect` and `release`|<= 0.7 F
    10 000 idle against 10 idle|<= 1.1 x
    hand-off to a waiter, 10 waiting|<= 2.3 F
    hand-off to a waiter, 10 000 waiting|<= 2.3 F
    hand-off to a waiter, 100 000 waiting|<= 2.3 F
    hand-off, 100 000 waiting against 10|<= 1.3 x
    cancel a waiter, 10 waiting|<= 6 F
    cancel a waiter, 10 000 waiting|<= 6 F
    cancel a waiter, 100 000 waiting|<= 6 F
    cancel, 100 000 waiting against 10|<= 1.3 x
    contended, against a `DeferredQueue`|<= 2.2 x
    contended, spread of operations at half-way|<= 1
    share of a loopback echo's client CPU, against a `DeferredQueue`'s|<= 3 x
    memory: an idle connection's book-keeping|<= 1250 bytes
    memory: a waiter|<= 400 bytes
    `group.connect`, `pick_two`, 10 backends, above the manager's|<= 0.8 F
    `group.connect`, `pick_two`, 1000 backends, above the manager's|<= 0.8 F
    `group.connect`, `pick_two`, 10 000 backends, above the manager's|<= 0.8 F
    `pool.select`, `pick_two`, 10 backends, above the manager's|<= 1 F
    `pool.select`, `pick_two`, 1000 backends, above the manager's|<= 1 F
    `pool.select`, `pick_two`, 10 000 backends, above the manager's|<= 1.5 F
"""
"""What is promised."""

FIGURE = r"-?[\d.]+( \(-?[\d.]+ to -?[\d.]+\))?"


def cells(lines: Iterator[str]) -> Mapping[str, list[str]]:
    """The rest of each line of a table by its first cell."""
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in lines]
    return {first: rest for first, *rest in rows}


def alternating(*figures: float) -> Iterator[float]:
    yield from figures


def figures_at(share: float) -> Figures:
    """Kolus at such a share of every goal."""
    figures = Figures()
    for row in ROWS:
        base, goal = row.above or row.over, row.goal or 1.0
        if base is None:
            figures.add("kolus", {row.what: goal * share})
        else:  # as much as what it is compared with
            own = figures.of(row.what, "kolus")
            if not figures.of(base, "kolus"):
                figures.add("kolus", {base: own[0] if own else 1.0})
            if not own:
                figures.add("kolus", {row.what: figures.of(base, "kolus")[0]})
    return figures


# Measuring


def test_a_reading_is_bracketed_by_the_unit_before_and_after() -> None:
    happened = []
    times, units = alternating(10.0, 16.0), alternating(1.0, 2.0)

    def clock() -> float:
        happened.append("clock")
        return next(times)

    def unit() -> float:
        happened.append("unit")
        return next(units)

    meter = Meter(clock, unit)
    with meter.whole(operations=2) as reading:
        happened.append("work")
    assert happened == ["unit", "clock", "work", "clock", "unit"]
    assert reading.seconds == 3.0
    assert reading.in_f == 2.0
    assert meter.units == [1.0, 2.0]


def test_the_parts_of_a_reading_add_up_and_nothing_else_counts() -> None:
    times = alternating(0.0, 1.0, 50.0, 52.0)
    meter = Meter(lambda: next(times), lambda: 1.0)
    with meter.parts(operations=3) as reading:
        with reading:
            pass
        with reading:
            pass
    assert reading.seconds == 1.0


def test_a_spread_is_the_median_between_the_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(2.0, 3.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_a_slow_case_is_measured_in_few_of_the_rounds() -> None:
    async def sample(meter: Meter) -> Mapping[str, float]:
        return {"it": 1.0}

    cases = [Case("often", sample), Case("seldom", sample, every=4)]
    rounds: list[int] = []
    figures = result_of(
        Deferred.fromCoroutine(measure(cases, 8, Meter(), Random(1), rounds.append))
    )
    assert len(figures.of("it", "often")) == 8
    assert len(figures.of("it", "seldom")) == 2
    assert rounds == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_cases_come_in_another_order_in_each_round() -> None:
    orders: list[list[str]] = []

    def case(name: str) -> Case:
        async def sample(meter: Meter) -> Mapping[str, float]:
            orders[-1].append(name)
            return {}

        return Case(name, sample)

    orders.append([])
    cases = [case(name) for name in "abcdefgh"]
    work = measure(cases, 5, Meter(), Random(1), lambda done: orders.append([]))
    result_of(Deferred.fromCoroutine(work))
    assert all(sorted(order) == list("abcdefgh") for order in orders[:5])
    assert len({tuple(order) for order in orders[:5]}) > 1


# The table


def test_figures_are_compared_round_by_round() -> None:
    figures = Figures()
    for more, less in ((4.0, 2.0), (90.0, 30.0)):
        figures.add("kolus", {"more": more, "less": less})
    assert Row("", "more", above="less").figures(figures, "kolus") == [2.0, 60.0]
    assert Row("", "more", over="less").figures(figures, "kolus") == [2.0, 3.0]


def test_a_goal_that_is_just_reached_is_met() -> None:
    assert missed(figures_at(1.0)) == []
    assert verdict(figures_at(1.0)) == 0


def test_goals_that_are_missed_are_named_and_end_in_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = figures_at(1.0)
    figures.add("kolus", {"idle, tried": 0.71, "memory of a waiter": 300.0})
    figures.add("kolus", {"idle, tried": 0.72})
    assert verdict(figures) == 1
    assert capsys.readouterr().err == "missed: idle, `try_connect` and `release`\n"


def test_a_peer_stands_beside_kolus_or_is_said_to_be_absent() -> None:
    figures = figures_at(0.5)
    figures.add("DeferredQueue", {"contended": 1.8})
    rows = cells(table(figures, absent=["aiohttp"]))
    beside = rows["contended, an operation above the loop's own yield"][-1]
    assert beside == "DeferredQueue 1.80, aiohttp not installed"


def test_the_table_replaces_what_is_between_the_markers() -> None:
    text = "above\n<!-- bench -->\nold\n<!-- /bench -->\nbelow\n"
    assert insert(text, "new") == "above\n<!-- bench -->\nnew\n<!-- /bench -->\nbelow\n"


@pytest.mark.parametrize("text", ["", "<!-- bench -->", "<!-- /bench --><!-- bench -->"])
def test_a_file_without_the_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no <!-- bench -->"):
        insert(text, "new")


def test_a_file_that_cannot_take_the_table_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("no place", encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        parse(["--write", str(tmp_path / "README.md")])
    assert caught.value.code == 2
    assert "no <!-- bench -->" in capsys.readouterr().err


# All of it


@pytest.mark.long
def test_a_quick_run_tells_a_figure_for_every_row_and_every_goal() -> None:
    command = [sys.executable, "-m", "tests.bench.core", "--quick", "--no-peers"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE)
    rows = cells(line for line in ended.stdout.splitlines() if line.startswith("|"))
    assert [row.text for row in ROWS if not re.fullmatch(FIGURE, rows[row.text][1])] == []
    assert rows["how many managers it has made"][1] == "100"
    for text, goal in (line.strip().split("|") for line in GOALS.strip().splitlines()):
        stated, _, met, _ = rows[text]
        assert stated == goal
        assert met in ("yes", "no"), text
        assert (f"missed: {text}\n" in ended.stderr) == (met == "no")
    misses = [text for text, rest in rows.items() if rest[2] == "no"]
    assert ended.returncode == (1 if misses else 0), ended.stderr
