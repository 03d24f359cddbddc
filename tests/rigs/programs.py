"""C{Program}: a random use of one state machine, which can be repeated and made shorter.

Hypothesis takes most of its time to draw, and to note what it has drawn. A program chooses from the
same values by a plain random generator, so it makes several times as many steps.
"""

from __future__ import annotations

import copy
import gc
import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

from hypothesis.internal.conjecture.data import ConjectureData
from twisted.logger import LogEvent, globalLogPublisher

from tests.rigs.draws import SETTINGS
from tests.rigs.machines import Machine

__all__ = ["PLAIN", "Fault", "Program", "Step"]

_SOME = 400
PLAIN: dict[str, Any] = {
    "limit": 4,
    "max_waiters": None,
    "min_idle": 0,
    "acquire_timeout": None,
    "idle_timeout": None,
    "lifetime": None,
    "max_uses": None,
    "manager_idle_timeout": None,
    "reuse": "lifo",
    "max_connecting": None,
    "fail_fast": True,
    "check_after": 1.0,
    "close_timeout": 5.0,
    "leak_after": None,
    "hold_limit": None,
    "keepalive": None,
    "max_idle": None,
    "max_idents": None,
    "ejection": None,
    "debug": False,
}
"""The settings that cause least."""


class Step(NamedTuple):
    """A call of one rule.

    @ivar age: how many steps were drawn before it. Some rules are made at some ages only, also if
        steps before them are left out.
    """

    rule: str
    age: int
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.rule}({', '.join(f'{each}={value!r}' for each, value in self._shown())})"

    def _shown(self) -> Iterator[tuple[str, Any]]:
        for name, value in self.arguments.items():
            if name == "settings":
                value = {each: value[each] for each in value if value[each] != PLAIN.get(each, ...)}
            yield name, value

    def having(self, name: str, value: object) -> Step:
        """The same with another argument."""
        return self._replace(arguments={**self.arguments, name: value})


@dataclass(frozen=True)
class Fault:
    """What went wrong. Two are equal if the same kind of error comes from the same line."""

    kind: str
    line: str
    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, f"{where.name}: {where.line}", text)


@dataclass(frozen=True)
class Program:
    """The steps of one run, the first of which begins it.

    @ivar every: the invariants are checked after so many steps, and at the end.
    """

    machine: type[Machine]
    steps: Sequence[Step]
    every: int

    @classmethod
    def draw(cls, machine: type[Machine], seed: int, most: int, every: int) -> Program:
        """Draw a program. It uses only some of the rules and of the settings. So it meets some
        events more often together than if it used all of them.

        @param most: the most steps.
        """
        chance, setup = random.Random(seed), machine.setup_state()
        share_set, share_used = chance.random(), chance.random()
        chosen = [each for each in SETTINGS if each not in PLAIN or chance.random() < share_set]
        settings = PLAIN | _draw({each: SETTINGS[each] for each in chosen}, chance)
        begin = setup.initializers[0]
        others = {name: each for name, each in begin.arguments.items() if name != "settings"}
        steps = [Step("begin", 0, {"settings": settings, **_draw(others, chance)})]
        rules = [each for each in setup.rules if chance.random() < share_used] or setup.rules
        for age in range(chance.randint(1, most)):
            rule = chance.choice(rules)
            steps.append(Step(rule.function.__name__, age, _draw(rule.arguments, chance)))
        return cls(machine, steps, every)

    def having(self, steps: Sequence[Step]) -> Program:
        """The same with other steps."""
        return replace(self, steps=steps)

    def run(self) -> tuple[int, Fault | None]:
        """Run it.

        @return: the number of steps that were made, since some are not allowed in each state; and
            what goes wrong.
        """
        made = 0
        try:
            with _failures() as logged:
                for _ in self._made():
                    made += 1
                gc.collect(0)  # a failure that nobody has handled is logged then
            for each in logged:
                each["log_failure"].raiseException()
        except Exception as error:
            return made, Fault.of(error)
        return made, None

    def _made(self) -> Iterator[Step]:
        """Make the steps that are allowed, and tell each."""
        rules = {each.function.__name__: each for each in self.machine.setup_state().rules}
        machine, made = self.machine(), 0
        machine.look_every = self.every
        machine.begin(**_copied(self.steps[0]))
        for step in self.steps[1:]:
            machine.age = step.age
            if not all(each(machine) for each in rules[step.rule].preconditions):
                continue
            getattr(machine, step.rule)(**_copied(step))
            yield step
            made += 1
            if made % self.every == 0:
                _check(machine)
        _check(machine)
        machine.teardown()


def _draw(kinds: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    return {name: chance.choice(_some(each)) for name, each in kinds.items()}


@cache
def _some(kind: Any) -> list[Any]:
    """Some values of one kind. To draw a value takes as long as to make a step."""
    chance = random.Random(0)
    return [ConjectureData(random=chance).draw(kind) for _ in range(_SOME)]


def _copied(step: Step) -> dict[str, Any]:
    """Arguments that a rule may change."""
    kinds = (dict, list, set)
    return {
        name: copy.copy(value) if isinstance(value, kinds) else value
        for name, value in step.arguments.items()
    }


def _check(machine: Machine) -> None:
    for each in machine.setup_state().invariants:
        each.function(machine)


@contextmanager
def _failures() -> Iterator[list[LogEvent]]:
    """The unexpected failures that are logged meanwhile."""
    failures: list[LogEvent] = []

    def keep(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            failures.append(event)

    globalLogPublisher.addObserver(keep)
    try:
        yield failures
    finally:
        globalLogPublisher.removeObserver(keep)
