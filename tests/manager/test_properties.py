"""Rule 1 with random events: in any order, nothing is lost, stuck or miscounted."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.rigs.group_machines import MACHINES
from tests.rigs.machines import Machine
from tests.rigs.repeatable import repeatable

pytestmark = pytest.mark.long


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_whatever_happens_nothing_is_lost_or_stuck(machine: type[Machine]) -> None:
    chosen = settings(
        max_examples=180,
        stateful_step_count=60,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # to make an example smaller takes minutes
    )
    with repeatable():
        run_state_machine_as_test(machine, settings=chosen)
