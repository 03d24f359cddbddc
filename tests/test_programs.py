"""The state machines can be run by hand, and a fault is shown by few steps."""

from __future__ import annotations

import pytest
from hypothesis.stateful import rule

from tests.rigs.machines import PLAIN_MACHINES
from tests.rigs.programs import Program
from tests.rigs.repeatable import repeatable
from tests.rigs.shrinking import shrunk


class Faulty(PLAIN_MACHINES[0]):  # type: ignore[misc]
    """Has a rule that fails once something was leased."""

    @rule()
    def fail(self) -> None:
        assert not self.ledger.held, "something was leased"


@pytest.mark.parametrize("machine", PLAIN_MACHINES, ids=lambda machine: machine.__name__)
def test_a_program_is_the_same_each_time_that_it_is_drawn_with_a_seed(machine: type) -> None:
    with repeatable():
        first, second = (Program.draw(machine, 7, most=20, every=5) for _ in range(2))
        assert first.steps == second.steps
        assert first.run() == second.run()


def test_a_fault_is_shown_by_the_steps_that_it_needs() -> None:
    with repeatable():
        programs = (Program.draw(Faulty, seed, most=60, every=10) for seed in range(100))
        program, fault = next(
            (each, fault) for each in programs if (fault := each.run()[1]) is not None
        )
        short = shrunk(program, fault, seconds=60)
    assert fault.kind == "AssertionError"
    assert short.run()[1] == fault
    assert [each.rule for each in short.steps][-1] == "fail"
    assert len(short.steps) <= 4
