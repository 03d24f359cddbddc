"""The tables of the simulation, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.bench.sim_run import Case, Outcome

__all__ = ["pairs", "percentile", "tables"]

_BOUND = "Nothing happens; choose, then queue: only the backend chosen may serve a request"
_ONE_ORDER = "Nothing happens; all clients have one list, in one order"

_HEADS = (
    *("balancer", "wait p50 / p99 / max", "latency p50 / p99", "load mean / max", "max / mean"),
    *("of its share", "as chosen", "connections", "failed"),
)

_EVENTS = {
    "steady": "Nothing happens; each client has its list in an order of its own",
    "slow backends": "A hundredth of the backends becomes ten times slower",
    "step failure": "A tenth of the backends drops its connections and refuses new ones",
    "rolling restart": "A hundredth of the backends goes away and comes back, one after the other",
    "cold joiners": "A hundredth as many backends join",
}


def percentile(ordered: Sequence[float], share: float) -> float:
    """That which so many are not above; not a number of none."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def tables(outcomes: Mapping[Case, Outcome]) -> Iterator[str]:
    """A table for each event, and one of late binding beside choosing first."""
    crowd = {case: each for case, each in outcomes.items() if case.setting.clients > 1}
    for event, title in _EVENTS.items():
        yield from _crowd(title, [each for each in crowd if each.event == event], crowd)
    yield from _binding(outcomes)


def _crowd(title: str, cases: Sequence[Case], outcomes: Mapping[Case, Outcome]) -> Iterator[str]:
    kinds = ((False, False, title), (True, False, _BOUND), (False, True, _ONE_ORDER))
    for bound, in_step, told in kinds:
        rows = [each for each in cases if (each.bound, each.in_step) == (bound, in_step)]
        if rows:
            yield f"**{told}.** {_size(rows[0])}"
            yield ""
            yield _line(_HEADS)
            yield _line(["---"] * len(_HEADS))
            for case in rows:
                yield _line(_row(case, outcomes[case]))
            yield ""


def pairs(outcomes: Mapping[Case, Outcome]) -> Iterator[tuple[str, Outcome, Outcome]]:
    """Each balancer of which both were simulated: bound late, and its choice binding."""
    alone = {case: each for case, each in outcomes.items() if case.setting.clients == 1}
    for case, late in alone.items():
        if not case.bound:
            first = [each for other, each in alone.items() if other.balancer == case.balancer]
            yield case.balancer, late, first[1]


def _binding(outcomes: Mapping[Case, Outcome]) -> Iterator[str]:
    case = next(each for each in outcomes if each.setting.clients == 1)
    yield f"**What late binding gains in waits.** {_size(case)}"
    yield ""
    both = ("late", "choose, then queue")
    heads = ["balancer"]
    heads += [f"{what}, {how}" for what in ("wait p50 / p99 / max", "failed") for how in both]
    yield _line([*heads, "p99 of waits, the other over late"])
    yield _line(["---"] * (len(heads) + 1))
    for balancer, late, first in pairs(outcomes):
        row = [_waits(late), _waits(first), _failures(late), _failures(first), _ratio(late, first)]
        yield _line([f"`{balancer}`", *row])


def _size(case: Case) -> str:
    setting = case.setting
    clients = "1 client" if setting.clients == 1 else f"{setting.clients} clients"
    return (
        f"{clients}, {setting.backends} backends that serve {setting.workers} requests at a time, "
        f"{1000 * setting.service:.0f} ms each in the mean, {setting.utilisation:.0%} busy; "
        f"{setting.requests} requests in {setting.seconds:g} s; limit {setting.limit}. "
        "Times in ms."
    )


def _row(case: Case, outcome: Outcome) -> list[str]:
    late = outcome.latencies
    return [
        f"`{case.balancer}`",
        _waits(outcome),
        f"{_ms(percentile(late, 0.5))} / {_ms(percentile(late, 0.99))}",
        f"{outcome.mean_load:.2f} / {outcome.most_load}",
        f"{outcome.most_load / outcome.mean_load:.1f}",
        "" if outcome.share is None else f"{outcome.share:.0%}",
        f"{outcome.at_choice:.0%}",
        str(outcome.connections),
        _failures(outcome),
    ]


def _waits(outcome: Outcome) -> str:
    waits = outcome.waits
    return f"{_ms(percentile(waits, 0.5))} / {_ms(percentile(waits, 0.99))} / {_ms(waits[-1])}"


def _ratio(late: Outcome, first: Outcome) -> str:
    """How much longer the waits are that late binding spares."""
    short, long = percentile(late.waits, 0.99), percentile(first.waits, 0.99)
    return f"{long / short:.1f}" if short else ""


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}"


def _failures(outcome: Outcome) -> str:
    kinds = [f"{count} {why}" for why, count in sorted(outcome.failures.items())]
    return ", ".join(kinds) or "0"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
