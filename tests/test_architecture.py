"""The page and the picture of the architecture agree with the code."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.house_rules import LAYERS, modules, parse

ROOT = Path(__file__).parent.parent
PAGE = "docs/architecture.md"

NAME = re.compile(r"_?[A-Za-z]\w*(\.\w+)?")


def drawing() -> Any:
    """C{docs/draw.py}, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw"] = module
    spec.loader.exec_module(module)
    return module


def defined(path: Path) -> set[str]:
    """What a module defines, and the members of its classes: C{fired}, C{Pool.connect}."""
    names = set()
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(ast.unparse(each) for each in node.targets)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            names.update(f"{node.name}.{each}" for each in members(node))
    return names


def members(node: ast.ClassDef) -> Iterator[str]:
    """The methods and attributes of a class."""
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield each.name
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield each.target.id
        elif isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            yield each.attr


def blocks(text: str) -> list[str]:
    """The paragraphs, list entries and rows of tables of a page."""
    return re.split(r"\n(?=\n|\d+\. |\* |\| )", text)


def untrue_names(text: str, root: Path) -> Iterator[str]:
    """What a page puts in code style and the code has not: files, and the names after a file."""
    packages = {each.rpartition(".")[0] for each in modules(root)} | {"kolus/", "docs/draw.py"}
    for block in blocks(text):
        path = None
        for token in re.findall(r"`([^`]+)`", block):
            if token in packages:
                continue
            if token.endswith(".py"):
                path = root / "kolus" / token
                if not path.exists():
                    yield f"no file {token}"
                    path = None
            elif path is None or not NAME.fullmatch(token):
                yield f"{token} follows no file"
            elif token not in defined(path):
                yield f"no {token} in {path.name}"


def copy_into(root: Path) -> None:
    """Copy the code, the picture and the page."""
    shutil.copytree(ROOT / "kolus", root / "kolus", ignore=shutil.ignore_patterns("*.pyc"))
    (root / "docs").mkdir()
    for name in ("architecture.svg", "architecture.md"):
        shutil.copy(ROOT / "docs" / name, root / "docs" / name)


def test_the_picture_and_the_table_are_made_from_the_code_as_it_is() -> None:
    assert drawing().check(ROOT) == []


@pytest.mark.long
def test_a_picture_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    copy_into(tmp_path)
    assert drawing().check(tmp_path) == []
    (tmp_path / "kolus" / "events.py").write_text('"""Changed."""\n', encoding="utf-8")
    assert any("Changed" in line for line in drawing().check(tmp_path))


@pytest.mark.long
def test_a_table_of_rooms_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    copy_into(tmp_path)
    module = tmp_path / "kolus" / "proxy_protocol" / "more.py"
    module.write_text('"""More."""\n\nfrom kolus import errors\n', encoding="utf-8")
    assert any(line.startswith("+| `proxy_protocol`") for line in drawing().check(tmp_path))


def test_the_picture_shows_every_room_and_module() -> None:
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    names = set(re.findall(r'class="name"[^>]*>(\w+)<', picture))
    assert names == {*" ".join(LAYERS[:-1]).split(), "kolus"}


def test_every_file_and_name_on_the_page_is_in_the_code() -> None:
    assert list(untrue_names((ROOT / PAGE).read_text(encoding="utf-8"), ROOT)) == []


def test_a_file_or_name_that_is_gone_is_found() -> None:
    page = "1. `lease.py` `Lease.release`\n2. `lease.py` `Lease.put`\n3. `gone.py`\n\n`Lease`"
    assert list(untrue_names(page, ROOT)) == [
        "no Lease.put in lease.py",
        "no file gone.py",
        "Lease follows no file",
    ]


def test_the_page_says_of_every_package_what_it_is_for() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))
    assert rows == {each.rpartition(".")[0] for each in modules(ROOT) if "." in each}


def test_each_way_has_five_to_eight_steps() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    steps = [int(each) for each in re.findall(r"^(\d)\. ", page, re.MULTILINE)]
    ends = [here for here, following in zip(steps, [*steps[1:], 1], strict=True) if following == 1]
    assert len(ends) == 6
    assert all(5 <= end <= 8 for end in ends)
