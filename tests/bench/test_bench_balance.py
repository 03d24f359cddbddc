"""The simulation of the balancers: the same seed gives the same result, for every balancer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kolus import balance
from tests.bench.balance import ALONE, BEGIN, CROWD, END, cases, insert, parse
from tests.bench.sim_clock import SimClock
from tests.bench.sim_run import BALANCERS, EVENTS, Case, run
from tests.bench.sim_table import percentile
from tests.rigs.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def start(*arguments: str, hash_seed: str = "0") -> subprocess.Popen[str]:
    """Begin the quick form, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.balance", "--quick", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the quick form tells, writes and draws, and what another one of the same seed tells."""
    page = tmp_path_factory.mktemp("bench") / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    drawing = page.with_name("plot.svg")
    runs = [start("--write", str(page), "--plot", str(drawing)), start(hash_seed="1")]
    said = [each.communicate(timeout=2 * PATIENCE) for each in runs]
    assert [each.returncode for each in runs] == [0, 0], said
    (first, progress), (second, _) = said
    return {
        "first": first,
        "second": second,
        "progress": progress,
        "page": page.read_text(),
        "plot": drawing.read_text(),
    }


@pytest.mark.long
def test_the_quick_form_has_a_row_for_each_balancer_in_each_table(told: dict[str, str]) -> None:
    sections = told["first"].split("\n**")[1:]
    in_one_order = [each for each in sections if "in one order" in each]
    assert len(sections) == len(EVENTS) + 3
    assert len(in_one_order) == 1
    for section in sections:
        rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        if section not in in_one_order:
            assert rows == list(BALANCERS)


def test_every_balancer_that_has_a_name_is_simulated() -> None:
    assert set(balance.NAMES) | {"consistent", "prefer_zone"} == set(BALANCERS)


@pytest.mark.long
def test_the_same_seed_tells_the_same_in_every_process(told: dict[str, str]) -> None:
    assert told["first"] == told["second"]


@pytest.mark.long
def test_what_is_written_stands_between_the_markers(told: dict[str, str]) -> None:
    assert told["page"] == f"before\n{BEGIN}\n{told['first']}{END}\nafter\n"


@pytest.mark.long
def test_each_case_is_told_of_when_it_is_done(told: dict[str, str]) -> None:
    assert len(told["progress"].splitlines()) == len(list(cases(quick=True)))


@pytest.mark.long
def test_the_plot_is_an_svg_with_a_pair_of_bars_for_each_balancer(told: dict[str, str]) -> None:
    root = ElementTree.fromstring(told["plot"])
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    texts = [each.text for each in root.iter(f"{space}text")]
    assert set(BALANCERS) | {"late binding", "choose, then queue"} <= set(texts)
    background_and_legend = 3
    bars = len(list(root.iter(f"{space}rect"))) - background_and_legend
    assert bars == 2 * len(BALANCERS)


@pytest.mark.long
def test_another_seed_is_another_simulation() -> None:
    setting = replace(ALONE, backends=5, requests=200)
    case = Case(setting, "pick_two")
    first, again, other = run(case, 1), run(case, 1), run(case, 2)
    assert first == again
    assert first != other
    assert not first.defects


def test_a_request_of_a_backend_that_fails_is_told_of_as_lost() -> None:
    setting = replace(CROWD, clients=2, backends=10, requests=300)
    outcome = run(Case(setting, "pick_two", "step failure"), 1)
    assert outcome.failures["lost"] > 0
    assert outcome.share == 0.0
    assert not outcome.defects


@pytest.mark.long
def test_late_binding_spares_waits() -> None:
    setting = replace(ALONE, backends=20, requests=3000)
    late, first = [run(Case(setting, "pick_two", bound=each), 1) for each in (False, True)]
    assert percentile(first.waits, 0.99) > 2 * percentile(late.waits, 0.99)


def test_a_percentile_is_one_of_the_figures() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0


def test_a_page_without_markers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(END + BEGIN)
    with pytest.raises(SystemExit):
        parse(["--write", str(page)])
    assert str(page) in capsys.readouterr().err
    with pytest.raises(ValueError, match="no <!-- balance -->"):
        insert("", "table")


def test_the_clock_calls_in_order_each_at_its_time() -> None:
    clock = SimClock()
    happened: list[Any] = []

    def note(what: str) -> None:
        happened.append((what, clock.seconds()))

    clock.callLater(3.0, note, "third")
    clock.call_at(1.0, note, "first")
    clock.callLater(1.0, note, "second")
    clock.callLater(2.0, note, "cancelled").cancel()
    clock.callLater(2.0, note, "put off").reset(5.0)
    clock.callLater(9.0, note, "brought forward").reset(4.0)
    clock.advance(4.5)
    assert happened == [
        *(("first", 1.0), ("second", 1.0), ("third", 3.0), ("brought forward", 4.0)),
    ]
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(1.0)
    assert happened[-1] == ("put off", 5.0)
    assert clock.seconds() == 5.5


def test_the_clock_forgets_what_was_cancelled() -> None:
    clock = SimClock()
    kept = clock.callLater(1e6, lambda: None)
    for _ in range(10_000):
        clock.callLater(1.0, lambda: None).cancel()
    assert len(clock._heap) < 5_000
    assert list(clock.getDelayedCalls()) == [kept]
