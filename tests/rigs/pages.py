"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Block", "Page", "pages"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    @ivar line: the number of its first line.
    @ivar language: what the block is marked with.
    @ivar text: its lines.
    @ivar prints: the block marked as text that follows at once: what a program prints.
    """

    page: Path
    line: int
    language: str
    text: str
    prints: str | None = None

    def __repr__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def compile(self) -> Any:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        padded = "\n" * (self.line - 1) + self.text
        return compile(padded, self.page, "exec", flags, dont_inherit=True)

    def run(self, names: dict[str, Any]) -> Any:
        """Execute it; a coroutine if it awaits anything itself."""
        return eval(self.compile(), names)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of the reader, which its first line names."""
        return re.match(r"# \w+\.py\n", self.text) is not None

    @property
    def is_program(self) -> bool:
        ends = re.search(r"^(react\(main\)|reactor\.run\(\))$", self.text, re.MULTILINE)
        return ends is not None and not self.is_file

    @property
    def is_test(self) -> bool:
        return "def test_" in self.text and not self.is_file

    @property
    def is_fragment(self) -> bool:
        kinds = (self.is_file, self.is_program, self.is_test)
        return self.language == "python" and not any(kinds)


@dataclass(frozen=True)
class Page:
    """A page in Markdown."""

    path: Path

    def __repr__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        text = self.text
        found = re.finditer(
            r"^```(.*)\n((?:.*\n)*?)```$(?:\n\n```text\n((?:.*\n)*?)```$)?", text, re.MULTILINE
        )
        return [
            Block(self.path, text.count("\n", 0, each.start(2)) + 1, each[1], each[2], each[3])
            for each in found
        ]

    def table(self, heading: str) -> list[list[str]]:
        """The rows of the table whose first row begins so."""
        rows = self.text[self.text.index(f"| {heading} |") :].partition("\n\n")[0].splitlines()[2:]
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def pages() -> list[Page]:
    """The README, CONTRIBUTING, and all pages of C{docs}."""
    above = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return [Page(path) for path in (*above, *sorted((ROOT / "docs").rglob("*.md")))]
