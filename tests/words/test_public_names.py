"""The names of the package: found when asked for, and the same that a type checker sees."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import kolus

SOURCE = Path(kolus.__file__)


def seen_by_type_checkers() -> dict[str, str]:
    """The module of each name."""
    (guarded,) = [
        each
        for each in ast.parse(SOURCE.read_text()).body
        if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
    ]
    imports = [each for each in guarded.body if isinstance(each, ast.ImportFrom)]
    return {name.name: str(each.module) for each in imports for name in each.names}


def test_every_public_name_is_the_one_that_a_type_checker_sees() -> None:
    modules = seen_by_type_checkers()
    assert sorted(modules) == sorted(kolus.__all__)
    for name, module in modules.items():
        assert getattr(kolus, name) is getattr(import_module(module), name)


def test_every_public_name_is_listed() -> None:
    assert set(kolus.__all__) <= set(dir(kolus))


def test_a_name_that_is_not_there_is_told_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'kolus' has no attribute 'Pol'"):
        kolus.Pol  # noqa: B018  # type: ignore[attr-defined]


@pytest.mark.long
def test_the_command_imports_no_twisted_and_nothing_that_takes_long() -> None:
    code = "import sys, kolus.cli; print(*sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(made.stdout.split())
    assert "kolus.cli.command" in imported
    assert not {"twisted", "zope", "asyncio", "importlib.metadata", "subprocess"} & imported
