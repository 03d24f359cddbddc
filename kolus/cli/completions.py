"""Completions for shells, made from the arguments of the command."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["completions"]


def completions(parser: argparse.ArgumentParser, shell: str) -> str:
    """A script for a shell.

    @param shell: C{bash}, C{zsh} or C{fish}.
    """
    commands = _commands(parser)
    if shell == "fish":
        return _fish(commands)
    words = " ".join([*_options(parser), *commands])
    cases = "\n".join(
        f"    {name}) words='{' '.join(_options(each) + _choices(each))}' ;;"
        for name, (_, each) in commands.items()
    )
    script = f"""_kolus() {{
  local word words='{words}'
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in
{cases}
    esac
  done
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _kolus kolus
"""
    if shell == "zsh":
        return f"#compdef kolus\nautoload -U bashcompinit && bashcompinit\n{script}"
    return script


def _fish(commands: dict[str, tuple[str, argparse.ArgumentParser]]) -> str:
    lines = []
    for name, (about, parser) in commands.items():
        lines.append(f"complete -c kolus -n __fish_use_subcommand -a {name} -d '{about}'")
        seen = f"'__fish_seen_subcommand_from {name}'"
        lines += [
            f"complete -c kolus -n {seen} -l {each.removeprefix('--')}"
            for each in _options(parser)
            if each.startswith("--")
        ]
        lines += [f"complete -c kolus -n {seen} -a {each}" for each in _choices(parser)]
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """The subparser of each command, and what it does."""
    found: Any = next(
        each for each in parser._actions if isinstance(each, argparse._SubParsersAction)
    )
    about = {each.dest: each.help or "" for each in found._choices_actions}
    return {name: (about[name], each) for name, each in found.choices.items()}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [text for each in parser._actions for text in each.option_strings if text[:2] == "--"]


def _choices(parser: argparse.ArgumentParser) -> list[str]:
    found: list[str] = []
    for each in parser._actions:
        if not each.option_strings and each.choices:
            found += map(str, each.choices)
    return found
