"""Runs the state machines of test_properties.py for as long as you like, with new seeds.

Run it as C{python -m tests.rigs.properties_by_hand --minutes 60}. The test draws by Hypothesis, the
same each time, and checks all promises after each step. This draws other programs with each seed
and checks less often, so it makes many more steps in the same time.

It stops at the first fault. Then it prints the shortest program with this fault that it finds, and
the exit status is 1.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from types import FrameType

from twisted.logger import globalLogBeginner

from tests.rigs.group_machines import MACHINES
from tests.rigs.machines import Machine
from tests.rigs.programs import Fault, Program
from tests.rigs.repeatable import repeatable
from tests.rigs.shrinking import shrunk

_TELL_EVERY = 30.0
_STUCK_AFTER = 60.0
"""A program that takes so many seconds of the processor never ends."""


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    machines = [each for each in MACHINES if each.__name__ in (options.machine or each.__name__)]
    first = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    seeds = itertools.count(first) if options.replay is None else [options.replay]
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    if options.replay is None:
        print(f"the first seed is {first}", flush=True)
    with repeatable():
        return _run(machines, seeds, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.rigs.properties_by_hand", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--minutes", type=float, default=60.0, help="how long (default: 60)")
    add("--seed", type=int, help="the first seed (default: a random one)")
    add("--replay", type=int, metavar="SEED", help="only this seed, to see its fault again")
    add(
        "--machine",
        action="append",
        choices=[each.__name__ for each in MACHINES],
        help="only this one; may be given several times (default: all)",
    )
    add("--steps", type=int, default=200, help="most steps of a program (default: 200)")
    add("--every", type=int, default=10, help="steps between two checks (default: 10)")
    add("--shrink", type=float, default=60.0, help="seconds to shorten a program (default: 60)")
    return parser


def _run(machines: list[type[Machine]], seeds: Iterable[int], options: argparse.Namespace) -> int:
    begun = told = time.monotonic()
    made = 0
    for seed in seeds:
        for machine in machines:
            now = time.monotonic()
            if now - told >= _TELL_EVERY:
                told = now
                print(f"{now - begun:5.0f} s: {made} steps, seed {seed}", flush=True)
            if now - begun >= options.minutes * 60:
                print(f"nothing found in {made} steps, the last of them with seed {seed}")
                return 0
            name = f"{machine.__name__}, seed {seed}"
            _limit(_STUCK_AFTER, name)
            program = Program.draw(machine, seed, options.steps, options.every)
            count, fault = program.run()
            made += count
            if fault is not None:
                print(f"{name}, after {made} steps:\n{fault}", flush=True)
                _limit(_STUCK_AFTER + options.shrink, name)
                _shrink(program, fault, options.shrink)
                return 1
    print(f"nothing found in {made} steps")
    return 0


def _shrink(program: Program, fault: Fault, seconds: float) -> None:
    sharper = replace(program, every=1)  # unless a check changes what happens
    program = shrunk(sharper if sharper.run()[1] == fault else program, fault, seconds)
    print(f"the same in {len(program.steps)} steps, checked after each {program.every}:")
    print(program.run()[1], *program.steps, sep="\n")


def _limit(seconds: float, name: str) -> None:
    """Exit if what begins now takes more seconds of the processor."""
    signal.signal(signal.SIGVTALRM, partial(_exit, name))
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def _exit(name: str, number: int, frame: FrameType | None) -> None:
    print(f"{name}: it never ends")
    traceback.print_stack(frame, file=sys.stdout)
    sys.stdout.flush()
    os._exit(1)  # an exception might be caught


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
