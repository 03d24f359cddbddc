"""C{shrunk}: makes a program with a fault as short and simple as possible."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.rigs.programs import PLAIN, Fault, Program
from tests.rigs.speakers import Speaker

__all__ = ["shrunk"]

_SIMPLE: dict[str, Any] = {
    "after": 0.0,
    "always": False,
    "balancer": None,
    "count": 1,
    "exclude": [],
    "fresh": False,
    "hooks": [],
    "ident": 0,
    "kind": Speaker,
    "limit": None,
    "observed": False,
    "owner": 0,
    "seed": 0,
    "side": 0,
    "then": "hold",
    "timeout": None,
    "times": 1,
    "which": 0,
}
"""The arguments of all rules that cause least."""


def shrunk(program: Program, fault: Fault, seconds: float) -> Program:
    """A shorter and simpler program with the same fault.

    @param seconds: about how long to try.
    """
    end = time.monotonic() + seconds

    def is_as_bad(other: Program) -> bool:
        return time.monotonic() < end and other.run()[1] == fault

    return _simplified(_shortened(program, is_as_bad), is_as_bad)


def _shortened(program: Program, is_as_bad: Callable[[Program], bool]) -> Program:
    """Leave out steps, many at a time first."""
    size = len(program.steps)
    while size > 1:
        size = (size + 1) // 2
        place, before = 1, program
        while place < len(program.steps):
            steps = [*program.steps[:place], *program.steps[place + size :]]
            if is_as_bad(shorter := program.having(steps)):
                program = shorter
            else:
                place += size
        if size == 1 and program is not before:
            size = 2  # others may be left out now
    return program


def _simplified(program: Program, is_as_bad: Callable[[Program], bool]) -> Program:
    """Make the arguments simple, one after the other."""
    for name, value in PLAIN.items():
        begin = program.steps[0]
        settings = {**begin.arguments["settings"], name: value}
        simpler = program.having([begin.having("settings", settings), *program.steps[1:]])
        if settings != begin.arguments["settings"] and is_as_bad(simpler):
            program = simpler
    for place, step in enumerate(program.steps):
        for name in step.arguments:
            steps = [*program.steps]
            steps[place] = steps[place].having(name, _SIMPLE.get(name, step.arguments[name]))
            if steps[place] != program.steps[place] and is_as_bad(program.having(steps)):
                program = program.having(steps)
    return program
