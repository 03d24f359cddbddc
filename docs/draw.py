"""Draws C{docs/architecture.svg}: the layers of kolus, and what imports what.

C{python docs/draw.py} writes the picture, and the table of packages in C{docs/architecture.md}.
With C{--check} it changes nothing, and fails with the lines that differ. The names, sizes,
sentences, imports and arrows come from the code, the layers from C{tests/rigs/house_rules.py}.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.rigs.house_rules import LAYERS, entry_of, imports, layer_of, modules, parse  # noqa: E402

__all__ = ["PAGE", "PICTURE", "check", "draw", "main"]

PICTURE = "docs/architecture.svg"
PAGE = "docs/architecture.md"

WIDTH = 900
LEFT, RIGHT = 34, 14
GAP = 12  # between boxes
CHANNEL = 38  # between layers, for the arrows
LINE = 15
CHARACTER = 6.9  # the average width of a character of 12 px, for the widest of the usual fonts
MOST_LINES = 5

STYLE = """
  text { font: 12px Verdana, "DejaVu Sans", sans-serif; fill: #1f2328; }
  .name { font-weight: bold; font-size: 13px; }
  .small { font-size: 11px; fill: #59636e; }
  .page { fill: #ffffff; }
  .box { fill: #eef4fb; stroke: #57789c; }
  .arrow { fill: none; stroke: #57789c; stroke-width: 1.3; marker-end: url(#head); }
  .head { fill: #57789c; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9aa6b2; }
    .page { fill: #0d1117; }
    .box { fill: #17222f; stroke: #7fa6d0; }
    .arrow { stroke: #7fa6d0; }
    .head { fill: #7fa6d0; }
  }
"""


@dataclass
class Box:
    """A package, or a module beside the packages.

    @ivar size: how long it is, in words.
    @ivar is_package: whether it is a package.
    @ivar lines: the beginning of its docstring and then C{far}, in lines that fit, each with its
        style.
    @ivar imports: all that it imports of kolus.
    @ivar near: what it imports on the layer below.
    @ivar far: what it imports on lower layers, except what the boxes in between import too.
    """

    name: str
    size: str
    sentence: str
    is_package: bool
    imports: list[str]
    near: list[str]
    far: list[str]
    lines: list[tuple[str, str]]
    x: float = 0.0
    width: float = 0.0

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, without its markup and without its own name."""
    said = " ".join((ast.get_docstring(parse(path)) or "").partition("\n\n")[0].split())
    said = re.sub(r"^[CL]\{\w+\}: ", "", said)
    said = re.sub(r"[CL]\{([^}]*)\}", r"\1", said)
    sentence = re.split(r"(?<=[a-z])\. ", said)[0].removesuffix(".")
    return sentence[:1].upper() + sentence[1:]


def boxes(root: Path) -> dict[str, Box]:
    """The packages and top modules, by name."""
    found = modules(root)
    direct: dict[str, set[str]] = {entry_of(each): set() for each in found}
    sizes: dict[str, list[int]] = {name: [] for name in direct}
    for module, path in found.items():
        name = entry_of(module)
        sizes[name].append(path.read_text(encoding="utf-8").count("\n"))
        others = (entry_of(each.removeprefix("kolus.")) for each in imports(parse(path)))
        direct[name].update(each for each in others if each != name)

    def below(name: str) -> set[str]:
        return direct[name].union(*(below(each) for each in direct[name]))

    drawn = {}
    for name, others in direct.items():
        own = sorted(others - set().union(*(below(each) for each in others)))
        path = found[name]
        # Rounded, so that not every commit changes the picture.
        lines, count = max(50, round(sum(sizes[name]) / 50) * 50), len(sizes[name]) - 1
        is_package = path.name == "__init__.py" and name != "__init__"
        drawn[name] = Box(
            name="kolus" if name == "__init__" else name,
            size=f"{count} modules" if is_package else f"about {lines} lines",
            sentence=first_sentence(path),
            is_package=is_package,
            imports=sorted(others),
            near=[each for each in own if layer_of(each) == layer_of(name) - 1],
            far=[each for each in own if layer_of(each) < layer_of(name) - 1],
            lines=[],
        )
    return drawn


def wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, int(width / CHARACTER), max_lines=MOST_LINES, placeholder=" …")


def place(drawn: dict[str, Box]) -> list[list[Box]]:
    """Give each box its place on its layer, above what it imports if possible.

    @return: the layers, the lowest first.
    """
    layers = []
    for names in LAYERS:
        layer = [drawn[name] for name in names.split()]

        def pull(box: Box) -> float:
            below = [drawn[each].middle for each in box.near]
            return sum(below) / len(below) if below else WIDTH

        if layers:
            layer.sort(key=pull)
        width = (WIDTH - LEFT - RIGHT - GAP * (len(layer) - 1)) / len(layer)
        for number, box in enumerate(layer):
            box.x, box.width = LEFT + number * (width + GAP), width
            also = f"↓ {', '.join(box.far)}" if box.far else ""
            box.lines = [("text", each) for each in wrapped(box.sentence, width - 14)]
            box.lines += [("small", each) for each in wrapped(also, width - 14)]
        layers.append(layer)
    return layers


def draw(root: Path) -> str:
    """The picture, as SVG."""
    drawn = boxes(root)
    layers = place(drawn)
    heights = [(2 + max(len(box.lines) for box in layer)) * LINE + 14 for layer in layers]
    height = sum(heights) + CHANNEL * (len(layers) - 1) + 28 + 2 * LINE
    tops, at = [], height - 14 - 2 * LINE
    for each in heights:
        tops.append(at - each)
        at -= each + CHANNEL
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="The layers of kolus">',
        "<!-- Drawn by docs/draw.py from the code. Do not edit. -->",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
    ]
    for number, layer in enumerate(layers):
        top, tall = tops[number], heights[number]
        out.append(f'<text class="small" x="12" y="{top + tall / 2 + 4:g}">{number + 1}</text>')
        for box in layer:
            out.append(
                f'<rect class="box" x="{box.x:.1f}" y="{top}" width="{box.width:.1f}" '
                f'height="{tall}" rx="4"/>'
            )
            lines = [("name", box.name), ("small", box.size), *box.lines]
            for line, (kind, text) in enumerate(lines):
                y = top + 18 + line * LINE
                out.append(
                    f'<text class="{kind}" x="{box.x + 7:.1f}" y="{y}">{escape(text)}</text>'
                )
        if number:
            out += arrows(layer, drawn, top + tall, tops[number - 1])
    legend = (
        "An arrow: imports from the layer below. ↓ in a box: imports from layers further down.",
        "Both leave out what comes in through another box on the way.",
    )
    for line, text in enumerate(legend):
        y = height - 8 - (1 - line) * LINE
        out.append(f'<text class="small" x="{LEFT}" y="{y}">{text}</text>')
    return "\n".join([*out, "</svg>", ""])


def arrows(layer: list[Box], drawn: dict[str, Box], bottom: int, top: int) -> list[str]:
    """The arrows from a layer to the one below, each end with a place of its own."""
    pairs = [(box, drawn[name]) for box in layer for name in box.near]
    out = []
    for upper, lower in pairs:
        here = sorted((each for _, each in (p for p in pairs if p[0] is upper)), key=middle)
        there = sorted((each for each, other in pairs if other is lower), key=middle)
        x1 = upper.x + upper.width * (here.index(lower) + 1) / (len(here) + 1)
        x2 = lower.x + lower.width * (there.index(upper) + 1) / (len(there) + 1)
        out.append(f'<path class="arrow" d="M{x1:.1f} {bottom}L{x2:.1f} {top - 1}"/>')
    return out


def middle(box: Box) -> float:
    return box.middle


def with_table(page: str, root: Path) -> str:
    """The page with its table of packages as the code has it."""
    rows = ["| package | what it is for | what it imports |", "| --- | --- | --- |"]
    for name, box in sorted(boxes(root).items()):
        if box.is_package:
            others = ", ".join(box.imports) or "nothing of kolus"
            rows.append(f"| `{name}` | {box.sentence} | {others} |")
            for inner, path in sorted(modules(root).items()):
                if inner.rpartition(".")[0] == name and path.name == "__init__.py":
                    rows.append(f"| `{inner}` | {first_sentence(path)} | |")
    table = "\n".join(rows)
    return re.sub(
        r"(<!-- packages -->\n).*(<!-- /packages -->)",
        lambda found: f"{found[1]}\n{table}\n\n{found[2]}",
        page,
        flags=re.DOTALL,
    )


def made(root: Path) -> dict[str, str]:
    """What each file should contain."""
    page = (root / PAGE).read_text(encoding="utf-8")
    return {PICTURE: draw(root), PAGE: with_table(page, root)}


def check(root: Path) -> list[str]:
    """The lines in which the files differ from the code; none if they are up to date."""
    lines: list[str] = []
    for name, text in made(root).items():
        path = root / name
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        lines += difflib.unified_diff(
            *(there.splitlines(), text.splitlines()), name, "the code", lineterm="", n=0
        )
    return lines


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        differs = check(ROOT)
        if differs:
            print(*differs, "Run python docs/draw.py and commit what it writes.", sep="\n")
        return 1 if differs else 0
    if arguments:
        print("usage: python docs/draw.py [--check]", file=sys.stderr)
        return 2
    for name, text in made(ROOT).items():
        (ROOT / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
