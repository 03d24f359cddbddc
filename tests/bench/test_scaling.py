"""What there is more of does not make a request dearer, with margins that noise does not reach."""

from __future__ import annotations

import pytest

from tests.bench.scaling import FEW, GOAL, SCENES, WHAT, calls, compare, table

SIZE, ROUNDS = 300, 7


@pytest.mark.parametrize("name", SCENES)
def test_a_request_makes_no_more_calls_where_there_is_more(name: str) -> None:
    few, many = [calls(SCENES[name](size)) for size in (FEW, SIZE)]
    for what in WHAT:
        assert many[what] <= GOAL * few[what], (few, many)


@pytest.mark.long
@pytest.mark.parametrize("name", SCENES)
def test_a_request_is_not_dearer_where_there_is_more(name: str) -> None:
    ratios = compare(SCENES[name], SIZE, ROUNDS)
    assert set(ratios) == set(WHAT)
    assert max(ratios.values()) <= GOAL, ratios


@pytest.mark.long
def test_the_table_has_a_row_for_each_scene_and_size() -> None:
    _, _, *rows = table([FEW])
    assert len(rows) == len(SCENES)
    assert all(f"| {FEW} {name} |" in row for name, row in zip(SCENES, rows, strict=True))
