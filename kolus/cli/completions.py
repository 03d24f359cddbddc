"""Completions for shells, made from the arguments of the command."""

from __future__ import annotations

from kolus.cli.parser import Parser

__all__ = ["completions"]


def completions(parser: Parser, shell: str) -> str:
    """A script for a shell.

    @param shell: C{bash}, C{zsh} or C{fish}.
    """
    if shell == "fish":
        return _fish(parser)
    words = " ".join([*parser.options, *parser.commands])
    cases = "\n".join(
        f"    {name}) words='{' '.join(each.options + _choices(each))}' ;;"
        for name, each in parser.commands.items()
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


def _fish(parser: Parser) -> str:
    before = "complete -c kolus -n __fish_use_subcommand"
    lines = [f"{before} -l {each.removeprefix('--')}" for each in parser.options]
    for name, its in parser.commands.items():
        lines.append(f"{before} -a {name} -d '{parser.about(name)}'")
        seen = f"complete -c kolus -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{seen} -l {each.removeprefix('--')}" for each in its.options]
        lines += [f"{seen} -a {each}" for each in _choices(its)]
    return "\n".join(lines) + "\n"


def _choices(parser: Parser) -> list[str]:
    found: list[str] = []
    for each in parser._actions:
        if not each.option_strings and each.choices:
            found += map(str, each.choices)
    return found
