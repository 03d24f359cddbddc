"""The plot of the simulation, as SVG: waits with late binding and without."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from tests.bench.sim_run import Case, Outcome
from tests.bench.sim_table import pairs, percentile

__all__ = ["plot"]

_WIDTH, _HEIGHT = 860, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 84, 60
_LATE, _FIRST = "#1f77b4", "#ff9f4a"
_BAR = 30
_INK, _GRID = "#333333", "#dddddd"


class _Axis:
    """A logarithmic axis, upwards, whole powers of ten from end to end."""

    def __init__(self, values: list[float]) -> None:
        self._low = math.floor(math.log10(min(values)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values))))

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]

    def y(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def plot(outcomes: Mapping[Case, Outcome]) -> str:
    """The p99 of the waits for each balancer, bound late beside its choice binding."""
    bars = [(name, _height(late), _height(first)) for name, late, first in pairs(outcomes)]
    axis = _Axis([each for _, late, first in bars for each in (late, first)])
    return "\n".join(_lines(bars, axis, _alone(outcomes))) + "\n"


def _alone(outcomes: Mapping[Case, Outcome]) -> Case:
    return next(each for each in outcomes if each.setting.clients == 1)


def _height(outcome: Outcome) -> float:
    """In ms; what is hardly anything, as the least that can be told of."""
    return max(0.1, 1000 * percentile(outcome.waits, 0.99))


def _lines(bars: list[tuple[str, float, float]], axis: _Axis, case: Case) -> Iterator[str]:
    setting = case.setting
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12" '
        f'fill="{_INK}">'
    )
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    yield _text(_LEFT, 26, "Waiting for a lease: the slowest hundredth", size=17)
    yield _text(
        *(_LEFT, 46),
        f"{setting.backends} backends, {setting.limit} connections each, unequally fast, "
        f"{setting.utilisation:.0%} busy; simulated, lower is better",
    )
    for place, (colour, what) in enumerate(
        ((_LATE, "late binding"), (_FIRST, "choose, then queue")),
    ):
        x = _LEFT + 150 * place
        yield f'<rect x="{x}" y="58" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, 68, what)
    for tick in axis.ticks():
        y = axis.y(tick)
        yield (
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{_GRID}"/>'
        )
        yield _text(_LEFT - 8, y + 4, f"{tick:g}", anchor="end")
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    yield (
        f'<text transform="translate(20 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        "99th percentile of the wait, in ms (logarithmic)</text>"
    )
    step = (_WIDTH - _LEFT - _RIGHT) / len(bars)
    for place, (name, late, first) in enumerate(bars):
        centre = _LEFT + (place + 0.5) * step
        yield from _bar(centre - _BAR / 2 - 1, late, _LATE, axis)
        yield from _bar(centre + _BAR / 2 + 1, first, _FIRST, axis)
        yield _text(centre, _HEIGHT - _BOTTOM + 20, name, anchor="middle")
    foot = _HEIGHT - _BOTTOM
    yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{foot}" y2="{foot}" stroke="{_INK}"/>'
    yield _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, "balancer", anchor="middle")
    yield "</svg>"


def _bar(centre: float, value: float, colour: str, axis: _Axis) -> Iterator[str]:
    top = axis.y(value)
    height = _HEIGHT - _BOTTOM - top
    yield (
        f'<rect x="{centre - _BAR / 2:.1f}" y="{top:.1f}" width="{_BAR}" height="{height:.1f}" '
        f'fill="{colour}"/>'
    )
    yield _text(centre, top - 4, f"{value:.0f}", anchor="middle", size=11)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )
