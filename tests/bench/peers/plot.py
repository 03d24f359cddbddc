"""The plot of the clients, as SVG: calls per second, and failures when the server is killed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

__all__ = ["plot"]

_WIDTH, _LINE, _LEFT = 760, 17, 180
_OURS, _OTHERS, _INK = "#1f77b4", "#c8c8c8", "#333333"


def plot(rates: Mapping[tuple[str, str, int], float]) -> str:
    """
    @param rates: calls per second by kind of server, client and number of callers. For 0 callers:
        the failures when the server is killed.
    """
    return "\n".join(_lines(rates)) + "\n"


def _lines(rates: Mapping[tuple[str, str, int], float]) -> Iterator[str]:
    kinds = [kind for kind in ("http", "redis", "postgres") if any(row[0] == kind for row in rates)]
    bars: list[tuple[str, list[tuple[str, float]]]] = []
    for kind in kinds:
        counts = {row[2] for row in rates if row[0] == kind}
        for callers in sorted(counts, key=lambda count: count or math.inf):
            rows = [
                (client, rate)
                for (its, client, count), rate in rates.items()
                if its == kind and count == callers
            ]
            rows.sort(key=lambda row: -row[1] if callers else row[1])
            what = f"{callers} callers" if callers else "failures when the server is killed"
            bars.append((f"{kind}, {what}", rows))
    height = 50 + sum(_LINE * (len(rows) + 2) for _, rows in bars)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12" '
        f'fill="{_INK}">'
    )
    yield f'<rect width="{_WIDTH}" height="{height}" fill="white"/>'
    yield '<text x="12" y="24" font-size="16">Calls per second over ten connections</text>'
    y = 50
    for title, rows in bars:
        yield f'<text x="12" y="{y}" font-weight="bold">{escape(title)}</text>'
        most = max(rate for _, rate in rows) or 1.0
        for client, rate in rows:
            y += _LINE
            width = (_WIDTH - _LEFT - 80) * rate / most
            colour = _OURS if client == "kolus" else _OTHERS
            yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(client)}</text>'
            yield (
                f'<rect x="{_LEFT}" y="{y - 7}" width="{width:.1f}" height="13" fill="{colour}"/>'
            )
            yield f'<text x="{_LEFT + width + 6:.1f}" y="{y + 4}">{rate:.0f}</text>'
        y += 2 * _LINE
    yield "</svg>"
