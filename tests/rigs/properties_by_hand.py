"""Runs the state machines of test_properties.py for as long as you like, with new seeds.

Run it as C{python -m tests.rigs.properties_by_hand --minutes 60}. The exit status is 1 if something
was found; then the last lines say how it came about.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import random
import sys
import time
import traceback
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import implementer

from tests.rigs.group_machines import MACHINES
from tests.rigs.machines import Machine
from tests.rigs.repeatable import repeatable

_TELL_EVERY = 30.0
_STUCK_AFTER = 600.0


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.rigs.properties_by_hand", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, help="the first seed (default: a random one)")
    parser.add_argument(
        "--machine",
        action="append",
        choices=[each.__name__ for each in MACHINES],
        help="only this one; may be given several times (default: all)",
    )
    parser.add_argument("--steps", type=int, default=60, help="most steps of a run (default: 60)")
    options = parser.parse_args(argv)
    first = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    machines = [each for each in MACHINES if each.__name__ in (options.machine or each.__name__)]
    failures: list[LogEvent] = []
    globalLogBeginner.beginLoggingTo([_Failures(failures)], redirectStandardIO=False)
    with repeatable():
        return _run(machines, first, options.minutes * 60, options.steps, failures)


@implementer(ILogObserver)
class _Failures:
    """A log observer that keeps unexpected failures."""

    def __init__(self, kept: list[LogEvent]) -> None:
        self._kept = kept

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            self._kept.append(event)


def _run(
    machines: Sequence[type[Machine]],
    first: int,
    seconds: float,
    steps: int,
    failures: list[LogEvent],
) -> int:
    begun = told = time.monotonic()
    for number in itertools.count(first):
        for machine in machines:
            now = time.monotonic()
            if now - told >= _TELL_EVERY:
                told = now
                print(f"{now - begun:5.0f} s: {Machine.steps} steps, seed {number}", flush=True)
            if now - begun >= seconds:
                print(f"nothing found in {Machine.steps} steps, seeds {first} to {number}")
                return 0
            faulthandler.dump_traceback_later(_STUCK_AFTER, exit=True)
            try:
                run_state_machine_as_test(seed(number)(machine), settings=_settings(steps))
                logged = [each["log_failure"].getTraceback() for each in failures]
                assert not failures, f"logged: {' '.join(logged)}"
            except Exception:
                traceback.print_exc()
                print(f"{machine.__name__}, seed {number}, after {Machine.steps} steps")
                return 1
    raise AssertionError("itertools.count never ends")


def _settings(steps: int) -> settings:
    # A run of sixty steps takes hypothesis minutes to shrink: repeat the seed with fewer --steps.
    return settings(
        max_examples=20,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
