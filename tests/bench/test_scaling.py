"""What there is more of does not make a request dearer, with margins that noise does not reach."""

from __future__ import annotations

import pytest

from tests.bench.scaling import FEW, GOAL, SCENES, WHAT, compare, table

pytestmark = pytest.mark.long

SIZE, ROUNDS = 300, 3


@pytest.mark.parametrize("name", SCENES)
def test_a_request_is_not_dearer_where_there_is_more(name: str) -> None:
    ratios = compare(SCENES[name], SIZE, ROUNDS)
    assert set(ratios) == set(WHAT)
    assert max(ratios.values()) <= GOAL, ratios


def test_the_table_has_a_row_for_each_scene_and_size() -> None:
    _, _, *rows = table([FEW])
    assert len(rows) == len(SCENES)
    assert all(f"| {FEW} {name} |" in row for name, row in zip(SCENES, rows, strict=True))
