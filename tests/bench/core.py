"""Measures kolus' core beside its peers against its goals: C{python -m tests.bench.core}."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from datetime import date
from os import cpu_count
from pathlib import Path
from platform import processor, python_version
from random import Random
from typing import Any

import twisted
from twisted.internet.task import react

if not __package__:  # run by its path
    sys.path[0] = str(Path(__file__).parents[2])

from tests.bench.choosing import choosing_cases, group_memory
from tests.bench.contention import contended_kolus
from tests.bench.core_peers import other_cases, other_loop, twisted_cases
from tests.bench.crowd import DEPTHS, crowd_cases, one_connection
from tests.bench.echo import echo_case
from tests.bench.idle import idle_cases
from tests.bench.measure import Case, Figures, Meter, Spread, measure
from tests.bench.memory import kolus_memory, queue_memory
from tests.bench.server import running_server
from tests.bench.table import missed, table
from tests.bench.transports import transport_cases

ROUNDS, QUICK = 100, 3
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def parse(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m tests.bench.core", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--quick",
        action="store_const",
        dest="rounds",
        const=QUICK,
        help="few rounds, every row all the same",
    )
    parser.add_argument("--no-peers", action="store_false", dest="peers", help="kolus alone")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help=f"put the table between {BEGIN} and {END} in this file",
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.write:
        try:  # now, not after minutes
            insert(options.write.read_text(), "")
        except (OSError, ValueError) as error:
            parser.error(f"--write {options.write}: {error}")
    return options


async def kolus_cases(reactor: Any, port: int, rng: Random) -> list[Case]:
    cases = [*idle_cases(), await echo_case(reactor, port), contended_kolus(reactor)]
    for depth in DEPTHS:
        cases += crowd_cases(one_connection(), depth, rng)
    return [*cases, *choosing_cases(rng)]


def processor_name() -> str:
    """What the machine calls its processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return processor() or "an unknown processor"


def circumstances(reactor: object, rounds: int, units: list[float]) -> str:
    """Where and when the figures were taken."""
    f = Spread.of([seconds * 1e9 for seconds in units])
    return (
        f"Measured on {date.today()}: {processor_name()}, {cpu_count()} cores, Python "
        f"{python_version()}, Twisted {twisted.__version__}, {type(reactor).__name__}. "
        f"F = {f.median:.0f} ns ({f.low:.0f} to {f.high:.0f}). {rounds} rounds; median "
        "(quartiles)."
    )


def insert(text: str, lines: str) -> str:
    """Replace what is between the markers.

    @raise ValueError: C{text} has no such place.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no {BEGIN} with {END} after it")
    return f"{before}{begin}\n{lines}\n{end}{after}"


def peers_told(versions: dict[str, str | None]) -> str:
    """Which peers were measured, and how they were kept from a network."""
    installed = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    told = (
        f"Peers beside Twisted's own: {', '.join(installed) or 'none'}, none of them on a network."
    )
    return f"{told} Not installed: {', '.join(absent)}." if absent else told


def show_progress(done: int, rounds: int) -> None:
    print(f"\rround {done} of {rounds}", end="\n" if done == rounds else "", file=sys.stderr)


async def run(reactor: Any, options: Namespace) -> None:
    """Measure and tell; ends in C{SystemExit} with the program's status."""
    rng, meter = Random(), Meter()
    versions: dict[str, str | None] = {}
    with running_server() as port, other_loop() as loop:
        async with transport_cases(reactor, port) as cases:
            cases += await kolus_cases(reactor, port, rng)
            if options.peers:
                cases += twisted_cases(reactor, rng)
                beside, versions = await other_cases(reactor, loop)
                cases += beside
            progress = show_progress if sys.stderr.isatty() else lambda done, rounds: None
            figures = await measure(
                cases, options.rounds, meter, rng, lambda done: progress(done, options.rounds)
            )
    figures.add("kolus", kolus_memory())
    figures.add("kolus", group_memory())
    if options.peers:
        figures.add("DeferredQueue", queue_memory())

    lines = [circumstances(reactor, options.rounds, meter.units)]
    if options.peers:
        lines.append(peers_told(versions))
    lines += ["", *table(figures, absent=[name for name in versions if not versions[name]])]
    text = "\n".join(lines)
    print(text)
    if options.write:
        options.write.write_text(insert(options.write.read_text(), text))
    raise SystemExit(verdict(figures))


def verdict(figures: Figures) -> int:
    """Name the goals that are missed.

    @return: the exit status: 1 if there are any.
    """
    failures = missed(figures)
    for row in failures:
        print(f"missed: {row.text}", file=sys.stderr)
    return 1 if failures else 0


def main(arguments: list[str]) -> None:
    react(run, [parse(arguments)])


if __name__ == "__main__":
    main(sys.argv[1:])
