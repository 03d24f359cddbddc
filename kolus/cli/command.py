"""C{main}: runs the command C{kolus}."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kolus.cli.arguments import STEERING, make_parser
from kolus.cli.client import AdminClient, Failed, Misused, path_of
from kolus.cli.completions import completions
from kolus.cli.names import find_backend, only_group
from kolus.cli.tables import clients_table, fitting, status_table

__all__ = ["main"]

_CLEAR = "\x1b[H\x1b[2J"


def main(arguments: Sequence[str] | None = None) -> int:
    """
    @return: the exit status.
    @raise SystemExit: the arguments are wrong, or ask for help.
    """
    parser = make_parser()
    told = parser.parse_args(arguments)
    try:
        if told.command == "completion":
            _print(completions(parser, told.shell))
            return 0
        if told.command == "check-config":
            return _check_config(told.file)
        client = AdminClient(told.url, _token(told.token_file))
        _COMMANDS[told.command](client, told)
        sys.stdout.flush()
    except Failed as failed:
        print(f"kolus: {failed}", file=sys.stderr)
        return failed.status
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # of a pager or of head
        _write_no_more()
    except OSError as error:
        print(f"kolus: the output cannot be written: {_reason(error)}", file=sys.stderr)
        _write_no_more()
        return 1
    return 0


def _write_no_more() -> None:
    """Python flushes stdout at its end, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _print(text: str) -> None:
    sys.stdout.write(text)


def _token(path: str | None) -> str | None:
    if path is None:
        return os.environ.get("KOLUS_TOKEN")
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misused(f"--token-file {path} cannot be read: {_reason(error)}") from None


def _check_config(path: str) -> int:
    """As C{twistd kolus --check-config}: a process of its own has the reactor that this needs."""
    import subprocess

    command = [sys.executable, "-m", "twisted", "kolus", "--config", path, "--check-config"]
    return 1 if subprocess.run(command, check=False).returncode else 0


def _status(client: AdminClient, told: argparse.Namespace) -> None:
    status = client.get(path_of("status"))
    if told.json:
        _print(json.dumps(status, indent=2) + "\n")
    else:
        _print_lines(status_table(status))


def _top(client: AdminClient, told: argparse.Namespace) -> None:
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    left = told.count or (None if terminal else 1)
    before = None
    while left is None or left > 0:
        status = client.get(path_of("status"))
        if before is not None and before["run"] != status["run"]:
            before = None
        lines = list(status_table(status, before))
        if terminal:
            _print(_CLEAR)
            lines = fitting(lines, *shutil.get_terminal_size())
        _print_lines(lines)
        sys.stdout.flush()
        before = status
        left = None if left is None else left - 1
        if left != 0:
            time.sleep(told.interval)


def _explain(client: AdminClient, told: argparse.Namespace) -> None:
    _print(client.get(path_of("explain"))["text"] + "\n")


def _clients(client: AdminClient, told: argparse.Namespace) -> None:
    _print_lines(clients_table(client.get(path_of("listeners", told.listener, "clients"))))


def _close(client: AdminClient, told: argparse.Namespace) -> None:
    names = "listeners", told.listener, "clients", str(told.number), "close"
    _print(client.post(path_of(*names), {})["done"] + "\n")


def _steer(client: AdminClient, told: argparse.Namespace) -> None:
    """Change something at a backend, or at a whole group."""
    name = told.command
    value = {each: getattr(told, each) for each in ("limit", "weight") if hasattr(told, each)}
    status = client.get(path_of("status"))
    if getattr(told, "all", False):
        if told.name is not None:
            raise Misused("give a backend or --all, not both")
        group = told.group or only_group(status)
        done = client.post(path_of("groups", group, name), value)
        _print(f"group {group}: {done['done']}\n")
        return
    if told.name is None:
        raise Misused(f"say which backend to {name}, or give --all")
    group, backend = find_backend(status, told.name, told.group)
    done = client.post(path_of("groups", group, "backends", backend, name), value)
    _print(f"backend {backend}: {done['done']}; it is {done['backend']['state']}\n")


def _print_lines(lines: Any) -> None:
    _print("\n".join(lines) + "\n")


_COMMANDS: dict[str, Callable[[AdminClient, argparse.Namespace], None]] = {
    "status": _status,
    "top": _top,
    "explain": _explain,
    "clients": _clients,
    "close": _close,
    **dict.fromkeys(STEERING, _steer),
}
