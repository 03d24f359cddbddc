"""What the package of endpoints may import."""

from __future__ import annotations

from pathlib import Path

import kolus.endpoints
from tests.rigs.house_rules import imports, parse

ALLOWED = ("kolus.endpoints", "kolus.errors", "kolus.support")


def test_it_imports_nothing_of_kolus_but_errors_and_small_tools() -> None:
    folder = Path(kolus.endpoints.__file__).parent
    imported = {name for path in folder.rglob("*.py") for name in imports(parse(path))}
    assert [each for each in sorted(imported) if not each.startswith(ALLOWED)] == []
    assert "kolus.errors" in imported
