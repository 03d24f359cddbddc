"""The arguments of the command C{kolus}."""

from __future__ import annotations

import argparse
import os
from typing import Any

from kolus.cli.parser import Parser

__all__ = ["SHELLS", "STEERING", "make_parser"]

URL = "unix:/run/kolus/admin.sock"

SHELLS = ("bash", "fish", "zsh")

STEERING = {
    "drain": "take a backend out, and let its leases end",
    "eject": "do not choose a backend until it is admitted",
    "admit": "choose a backend again that was ejected or drained",
    "pause": "give no leases until it is resumed; requests wait",
    "resume": "end a pause",
    "invalidate": "replace all present connections",
    "resize": "change the limit of connections",
    "weight": "change the weight of a backend",
}
"""The commands that change something at a backend."""

_OF_GROUPS = ("pause", "resume", "invalidate", "resize")

_EPILOG = """\
exit status: 0 done; 1 the daemon refused, or the file has mistakes; 2 wrong
arguments; 3 no daemon answers. KOLUS_URL and KOLUS_TOKEN stand for --url and
the token.
"""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # takes as long to import as all the rest

        print(f"kolus {version('kolus')}")
        parser.exit()


def make_parser() -> Parser:
    parser = Parser(
        prog="kolus",
        description="Shows and steers a running twistd kolus, over its admin server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--url",
        default=os.environ.get("KOLUS_URL", URL),
        help="the admin server: unix:PATH or http://HOST:PORT (default: %(default)s)",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, and exit")
    parser.add_argument("--token-file", help="a file whose first line is the token of the server")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    top = commands.add_parser("top", help="show all backends, again every second")
    top.add_argument("--interval", type=_seconds, default=1.0, help="seconds between two tables")
    top.add_argument("--count", type=_whole, help="end after so many (default: 1 if no terminal)")
    status = commands.add_parser("status", help="show all backends and listeners")
    status.add_argument("--json", action="store_true", help="as JSON")
    commands.add_parser("explain", help="show leases and waiters, and why these wait")
    clients = commands.add_parser("clients", help="show the clients of a listener")
    clients.add_argument("listener", nargs="?", default="default", help="(default: default)")
    for name, about in STEERING.items():
        _add_steering(commands.add_parser(name, help=about, description=about), name)
    close = commands.add_parser("close", help="close one client")
    close.add_argument("listener")
    close.add_argument("number", type=_whole, help="see: kolus clients")
    check = commands.add_parser("check-config", help="tell the mistakes of a configuration")
    check.add_argument("file", help="a TOML file, as for twistd kolus --config")
    completion = commands.add_parser("completion", help="print the completions of a shell")
    completion.add_argument("shell", choices=SHELLS)
    return parser


def _add_steering(parser: Parser, name: str) -> None:
    whole = name in _OF_GROUPS
    parser.add_argument("--group", help="the group of the backend; needed if several have it")
    if whole:
        parser.add_argument("--all", action="store_true", help="every backend of the group")
    parser.add_argument("name", nargs="?" if whole else None, help="a backend, by name or endpoint")
    if name == "resize":
        parser.add_argument("limit", type=_whole, help="most connections at a time")
    if name == "weight":
        parser.add_argument("weight", type=_seconds, help="its share, relative to the others")


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:20]) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return number
