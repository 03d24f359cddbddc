"""C{Parser}: parses a command line, and names the nearest word for one that it does not know."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from kolus.cli.hint import hint

__all__ = ["Parser"]

_MANY = 100


class Parser(argparse.ArgumentParser):
    """The parser of the program, or of one of its commands."""

    @property
    def commands(self) -> dict[str, Parser]:
        """The parsers of the commands by their names; empty for that of a command."""
        found = self._of_commands()
        return {} if found is None else dict(found.choices)

    def about(self, command: str) -> str:
        """What a command does, in a few words."""
        found = self._of_commands()
        told = [] if found is None else found._choices_actions
        return "".join([each.help or "" for each in told if each.dest == command])

    def _of_commands(self) -> Any:
        for each in self._actions:
            if isinstance(each, argparse._SubParsersAction):
                return each
        return None

    @property
    def options(self) -> list[str]:
        """The long options, such as C{--url}."""
        texts = [text for each in self._actions for text in each.option_strings]
        return [each for each in texts if each.startswith("--")]

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Parse the command line of the program.

        @raise SystemExit: it has a mistake, or asks for help.
        """
        args = sys.argv[1:] if args is None else args
        self._check_options(args)  # first: the value of an unknown one would be taken for a word
        told: argparse.Namespace
        told, others = self.parse_known_args(args, namespace)
        if told.command is None:
            self.error(f"say what to do, one of {', '.join(self.commands)}")
        if others:
            self.commands[told.command].error(f"unexpected argument {others[0]!r}")
        return told

    def _check_options(self, args: Sequence[str]) -> None:
        commands, its, is_value = self.commands, self, False
        for word in takewhile(lambda word: word != "--", args):
            name, equals, _ = word.partition("=")
            if its is self and word in commands and not is_value:
                its = commands[word]
            is_value = name.startswith("--") and not equals
            if name.startswith("--") and not any(own.startswith(name) for own in its.options):
                if name in self.options:
                    its.error(f"{name} stands before the command: {self.prog} {name} ...")
                its.error(f"unknown option {name}: {hint(name, its.options, _MANY)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.metavar or action.dest
            raise argparse.ArgumentError(
                None, f"unknown {name} {value!r}: {hint(str(value), action.choices, _MANY)}"
            )
