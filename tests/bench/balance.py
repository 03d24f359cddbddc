"""Simulates how the balancers share out the load: C{python -m tests.bench.balance}.

Kolus' own pools, groups, balancers, health and queues run on virtual time, without a socket: many
clients, each with its own pool, ask for leases of many backends that are not equally fast. The
same seed gives the same result on every machine.
"""

from __future__ import annotations

import gc
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time

from twisted.logger import globalLogBeginner

if not __package__:  # run by its path
    sys.path[0] = str(Path(__file__).parents[2])

from tests.bench.sim_plot import plot
from tests.bench.sim_run import BALANCERS, EVENTS, Case, Outcome, Setting, run
from tests.bench.sim_table import tables

BEGIN, END = "<!-- balance -->", "<!-- /balance -->"

CROWD = Setting(clients=100, backends=1000, requests=30_000, utilisation=0.7, limit=2)
ALONE = Setting(clients=1, backends=50, requests=40_000, utilisation=0.9, limit=2)
"""The limit is what a backend serves at a time: whoever must wait waits in the pool."""

QUICK = 600
HERDS = ("fill_first", "idle_first", "least_leased", "round_robin")
"""What prefers the first in the list, or begins there: simulated with one order for all, too."""

HELP = """
For each event, and each balancer: the time from a request to its lease (wait) and to its release
(latency); the leases out at one backend, of all clients, in the mean and at most; what the backends
that the event is about were given of their fair share; which part of the requests was served by the
backend that the balancer had chosen, and not by another that was ready; the connections open at the
end; the requests that were not answered. Requests of the first third of the time are not counted.

A request is for one of 10 000 keys, Zipf distributed with exponent 0.5; only C{consistent} looks at
it. The backends and the clients are in four zones; only C{prefer_zone} looks at them. Each client
has its list in an order of its own unless the row says otherwise.

The status is 1 if kolus did what it must not do: a request without an end, more connections than
the limit, a connection or a timer left after all is closed, a failure in the log.
"""


def parse(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(
        prog="python -m tests.bench.balance",
        description=(__doc__ + HELP).replace("C{", "").replace("}", ""),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--quick", action="store_true", help="few requests and backends, every row all the same"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help=f"put the tables between {BEGIN} and {END} in this file",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="draw what late binding gains"
    )
    options = parser.parse_args(arguments)
    if options.write:
        try:  # now, not after minutes
            insert(options.write.read_text(), "")
        except (OSError, ValueError) as error:
            parser.error(f"--write {options.write}: {error}")
    if options.plot and not options.plot.parent.is_dir():
        parser.error(f"--plot {options.plot}: no such directory")
    return options


def cases(quick: bool) -> Iterator[Case]:
    """Everything that is simulated, in the order of the tables."""
    crowd, alone = CROWD, ALONE
    if quick:
        crowd = replace(CROWD, clients=10, backends=40, requests=QUICK)
        alone = replace(ALONE, backends=20, requests=QUICK)
    for event in EVENTS:
        for balancer in BALANCERS:
            yield Case(crowd, balancer, event)
    # These take longest: what piles up, or is connected anew for nearly every request.
    short = replace(crowd, seconds=crowd.seconds / 2, requests=crowd.requests // 2)
    for balancer in BALANCERS:
        yield Case(short, balancer, bound=True)
    for balancer in HERDS:
        yield Case(short, balancer, in_step=True)
    for balancer in BALANCERS:
        for bound in (False, True):
            yield Case(alone, balancer, bound=bound)


def insert(text: str, lines: str) -> str:
    """Replace what is between the markers.

    @raise ValueError: C{text} has no such place.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no {BEGIN} with {END} after it")
    return f"{before}{begin}\n{lines}\n{end}{after}"


def simulate(quick: bool, seed: int) -> dict[Case, Outcome]:
    """Run all cases, and tell of each on the standard error."""
    outcomes = {}
    for case in cases(quick):
        began = process_time()
        outcomes[case] = outcome = run(case, seed)
        print(f"{case}: {process_time() - began:.1f} s", file=sys.stderr)
        for defect in outcome.defects:
            print(f"{case}: {defect}", file=sys.stderr)
    return outcomes


def main(arguments: list[str]) -> int:
    """
    @return: the exit status: 1 if kolus did what it must not do.
    """
    options = parse(arguments)
    # Without this Twisted keeps the last events for whoever begins to log, and prints failures.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    gc.freeze()  # what was imported is no garbage, and is not looked at after each run
    outcomes = simulate(options.quick, options.seed)
    text = f"Simulated with seed {options.seed}.\n\n" + "\n".join(tables(outcomes))
    print(text)
    if options.write:
        options.write.write_text(insert(options.write.read_text(), text))
    if options.plot:
        options.plot.write_text(plot(outcomes))
    return 1 if any(each.defects for each in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
