"""The table of the bench: what is measured, the goals, and whether kolus meets them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.choosing import BALANCERS, DEFAULT, QUICK_IN_A_LIST, SIZES
from tests.bench.contention import CONTENDED_BY_HAND
from tests.bench.echo import ECHO_BY_HAND
from tests.bench.measure import Figures, Spread
from tests.bench.transports import OTHERS, TCP, over

_WHOLE = ("bytes", "managers")
"""Units of which there are no parts."""
_GOALS = {("group", size): 0.8 for size in SIZES} | {("select", size): 1.0 for size in SIZES}
_GOALS["select", max(SIZES)] = 1.5
"""The most F that the default balancer may take above the manager."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. What it tells is an upper bound's worth: less is better."""

    text: str
    what: str
    """Which figures it is about."""
    goal: float | None = None
    """The most that is good enough; C{None} for what is only told."""
    unit: str = "F"
    above: str | None = None
    """Not the figures themselves, but by how much they are above these, round by round."""
    over: str | None = None
    """As C{above}, but how many times these."""

    def figures(self, figures: Figures, who: str) -> list[float]:
        """Of each round; none if it was not measured."""
        own = figures.of(self.what, who)
        if self.above is not None:
            return [a - b for a, b in zip(own, figures.of(self.above, who), strict=False)]
        if self.over is not None:
            return [a / b for a, b in zip(own, figures.of(self.over, who), strict=False)]
        return own

    def told(self, figure: float) -> str:
        """A figure for readers."""
        return f"{figure:.0f}" if self.unit in _WHOLE else f"{figure:.2f}"

    def met(self, figures: Figures) -> bool | None:
        """Whether kolus' median meets the goal; C{None} without a goal."""
        if self.goal is None:
            return None
        return Spread.of(self.figures(figures, "kolus")).median <= self.goal

    def line(self, figures: Figures, absent: Sequence[str]) -> str:
        """The row in Markdown.

        @param absent: the peers that would stand here, were they installed.
        """
        own = self.figures(figures, "kolus")
        spread = Spread.of(own)
        cell = self.told(spread.median)
        if len(own) > 1:
            cell += f" ({self.told(spread.low)} to {self.told(spread.high)})"
        beside = [
            f"{who} {self.told(Spread.of(their).median)}"
            for who in figures.peers()
            if (their := self.figures(figures, who))
        ]
        beside += [f"{who} not installed" for who in absent]
        met = {True: "yes", False: "no", None: ""}[self.met(figures)]
        goal = "" if self.goal is None else f"<= {self.goal:g} {self.unit}".rstrip()
        return f"| {self.text} | {goal} | {cell} | {met} | {', '.join(beside)} |"


def _grouped(number: int) -> str:
    return str(number) if number < 10_000 else f"{number:,}".replace(",", " ")


def _choosing() -> Iterator[Row]:
    """What choosing among backends costs above a request to the one that is chosen."""
    for size in SIZES:
        yield Row(
            f"a manager drawn from a list of {_grouped(size)}, without a look at its load, "
            "above the manager's",
            f"drawn, {size}",
            above=f"chosen, {size}",
        )
    for kind, text in (("group", "`group.connect`"), ("select", "`pool.select`")):
        for name in sorted(BALANCERS, key=lambda name: name != DEFAULT):
            is_default = name == DEFAULT
            anywhere = kind == "group" or name in QUICK_IN_A_LIST
            for size in SIZES if anywhere else SIZES[:1]:
                yield Row(
                    f"{text}, `{name}`, {_grouped(size)} backends, above the manager's",
                    f"{kind}, {name}, {size}",
                    _GOALS[kind, size] if is_default else None,
                    above=f"chosen, {size}" if is_default else f"chosen, {size}, seldom",
                )


ROWS = (
    Row("idle: `connect` and `release` on a manager, awaited", "idle, awaited", 1.0),
    Row("the same over a real TCP transport", TCP),
    *[Row(f"the same over {each}, against TCP", over(each), 1.2, "x", over=TCP) for each in OTHERS],
    Row("idle, callback style", "idle, called back", 1.8),
    Row(
        "idle, `pool.connect(ident, backend)`, above the manager's",
        *("idle, through the pool", 0.15),
        above="idle, awaited",
    ),
    Row("idle, `try_connect` and `release`", "idle, tried", 0.7),
    Row("the same with an owner", "idle, tried for an owner"),
    Row("the same with `Metrics` observing", "idle, tried with Metrics"),
    Row("the same with `debug=True`", "idle, tried in debug mode"),
    Row("10 000 idle against 10 idle", "idle, 10 000", 1.1, "x", over="idle, awaited"),
    Row("hand-off to a waiter, 10 waiting", "hand-off, 10", 2.3),
    Row("hand-off to a waiter, 10 000 waiting", "hand-off, 10000", 2.3),
    Row("hand-off to a waiter, 100 000 waiting", "hand-off, 100000", 2.3),
    Row("hand-off, 100 000 waiting against 10", "hand-off, 100000", 1.3, "x", over="hand-off, 10"),
    Row("a request and a hand-off, 10 waiting", "turn-over, 10"),
    Row("a request and a hand-off, 100 000 waiting", "turn-over, 100000"),
    Row("cancel a waiter, 10 waiting", "cancel, 10", 6.0),
    Row("cancel a waiter, 10 000 waiting", "cancel, 10000", 6.0),
    Row("cancel a waiter, 100 000 waiting", "cancel, 100000", 6.0),
    Row("cancel, 100 000 waiting against 10", "cancel, 100000", 1.3, "x", over="cancel, 10"),
    Row("contended, an operation above the loop's own yield", "contended"),
    Row("contended, against a `DeferredQueue`", "contended", 2.2, "x", over=CONTENDED_BY_HAND),
    Row("contended, spread of operations at half-way", "contended, spread", 1.0, ""),
    Row("share of a loopback echo's client CPU", "echo", unit="%"),
    Row(
        "share of a loopback echo's client CPU, against a `DeferredQueue`'s",
        "echo",
        3.0,
        "x",
        over=ECHO_BY_HAND,
    ),
    # 600 without hooks on its transport, which make a lease over TLS cost what one over TCP does.
    Row("memory: an idle connection's book-keeping", "memory of a connection", 1250.0, "bytes"),
    Row("memory: a waiter", "memory of a waiter", 400.0, "bytes"),
    *_choosing(),
    Row("a group of 10 000 backends, 100 connected: to build it", "group, to build", unit="ms"),
    Row("one backend joins it, one leaves", "group, to change", unit="ms"),
    Row("to close it", "group, to close", unit="ms"),
    Row("how many managers it has made", "group, managers", unit="managers"),
    Row("memory: the same group, its managers aside", "memory of a group", unit="bytes"),
    Row("memory: its managers and their connections", "memory of its managers", unit="bytes"),
    Row("memory: more when one has joined, one left", "memory of a change", unit="bytes"),
    Row("memory: left when it is closed", "memory of a closed group", unit="bytes"),
)

ABSENT_FROM = {
    "idle, awaited": ("aiohttp", "psycopg_pool", "SQLAlchemy", "txredisapi"),
    "idle, called back": ("txredisapi",),
    "contended": ("aiohttp", "psycopg_pool"),
    "contended, spread": ("aiohttp", "psycopg_pool"),
}
"""Which of the peers that may be missing stand in which rows."""


def table(figures: Figures, absent: Sequence[str] = ()) -> Iterator[str]:
    """The lines of the table, in Markdown.

    @param absent: the peers that are not installed.
    """
    yield "| what | goal | kolus | met? | peers |"
    yield "| --- | --- | --- | --- | --- |"
    for row in ROWS:
        yield row.line(figures, [who for who in ABSENT_FROM.get(row.what, ()) if who in absent])


def missed(figures: Figures) -> list[Row]:
    """The rows whose goals kolus does not meet."""
    return [row for row in ROWS if row.met(figures) is False]
