"""The house: who may import whom, how large a module may be, and what is public.

Each rule is a function that takes the root of a tree of files and gives the places where the rule
is broken. One test applies it to this repository, and one to a small tree that breaks it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = {
    "0": "errors",
    "0a": "named_endpoint",
    "1": "alarm attempts backend backoff checks connection_state counters descriptors fork frames "
    "ranking step transports",
    "1b": "candidates ejection",
    "2": "consistent events explanation health learner lease legacy lifecycle lifetimes peak_ewma "
    "places round_robin",
    "2a": "balance",
    "3": "keeper losses one_protocol owners policy stale",
    "3a": "early waiters",
    "3b": "house",
    "3b1": "room",
    "3b2": "shared_queue",
    "3c": "account",
    "4a": "connection interfaces metrics",
    "4b": "journal roster sources",
    "4c": "accounts hooks oversight",
    "4d": "connector panic",
    "4e": "base_manager",
    "4e1": "sharing_manager",
    "4f": "leasing_manager",
    "4g": "manager shared",
    "4h": "managers",
    "4i": "observatory prober",
    "4j": "live_status",
    "4j1": "listed",
    "4j2": "choice",
    "4k": "members selector",
    "5": "group",
    "5a": "groups",
    "5b": "pool_operation",
    "5c": "pool protocol_factory",
    "6": "demo service tunnel",
    "6a": "__init__",
    "7": "tap",
    "8": "testing",
}
"""The floors, the lowest first, with their modules and packages. A package is one entry: the
modules in it may import one another."""

TEST_KIT, TEST_KIT_IMPORTS = "8", "5c"
"""The test kit's floor, above all others so that nobody may import it, and the highest that it
may import."""

MOST_LINES = 400

PUBLIC = """
    Backend Closed ConnectFailed ConnectionManager Draining Ejection Group GroupStatus IKolusManager
    ISlots ISource KolusError Lease LeaseError LeaseTimeout NoBackend Policy Pool PoolFull
    PoolService Rejected SharedManager Status WrongIdent
    protocol_factory
"""


def modules(root: Path) -> dict[str, Path]:
    """The modules of the package by their names: C{pool}, C{tunnel.end}, C{__init__}."""
    found = {}
    for path in sorted((root / "kolus").rglob("*.py")):
        parts = path.relative_to(root / "kolus").with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def shipped(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of Python that an installation puts somewhere, with its path from C{root}."""
    for folder in ("kolus", "twisted"):
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


# Floors


def imports(tree: ast.AST) -> Iterator[str]:
    """What this code loads of kolus, inside of functions too; C{.} and more for a relative import.

    What stands under C{if TYPE_CHECKING:} is never loaded, so it ties nothing together. Types may
    look up: a status names its manager, whose interface speaks of statuses.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"kolus.{each.name}" for each in node.names] if module == "kolus" else [module]
        else:
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        yield from (each for each in names if each.partition(".")[0] in ("", "kolus"))
        yield from imports(node)


def floor_of(module: str) -> tuple[str, str]:
    """A module's floor, and the entry of the table that it comes under; two blanks if none."""
    for floor, entries in FLOORS.items():
        for entry in entries.split():
            if module == entry or module.startswith(f"{entry}."):
                return floor, entry
    return "", ""


def imports_of_a_floor_not_below(root: Path) -> Iterator[str]:
    for module, path in modules(root).items():
        floor, entry = floor_of(module)
        for name in imports(parse(path)):
            below, other = floor_of(name.removeprefix("kolus."))
            too_high = below >= floor or (floor == TEST_KIT and below > TEST_KIT_IMPORTS)
            if not below or (too_high and entry != other):
                yield f"{module} (floor {floor}) imports {name} (floor {below or 'unknown'})"


def modules_without_a_floor(root: Path) -> Iterator[str]:
    yield from (module for module in modules(root) if not floor_of(module)[0])


def floors_without_a_module(root: Path) -> Iterator[str]:
    found = modules(root)
    yield from (each for each in " ".join(FLOORS.values()).split() if each not in found)


# Files


def files_that_are_too_long(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MOST_LINES:
            yield f"{name}: {lines} lines"


def files_with_an_underscore(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        if path.stem.startswith("_") and path.stem != "__init__":
            yield name


def packages_where_others_have_theirs(root: Path) -> Iterator[str]:
    """An C{__init__.py} of ours in C{twisted} would replace Twisted's own."""
    for path in sorted((root / "twisted").rglob("__init__.py")):
        yield path.relative_to(root).as_posix()


# What modules say


def files_without_an_opening_sentence(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        first_line = (ast.get_docstring(parse(path)) or "").partition("\n")[0]
        if not first_line.endswith("."):
            yield name


def files_without_postponed_annotations(root: Path) -> Iterator[str]:
    """Of those that define anything; a list of imports has no annotations."""
    for name, path in shipped(root):
        tree = parse(path)
        defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
        if defines and not any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
        ):
            yield name


def public_names(path: Path) -> list[str] | None:
    """What the module's C{__all__} says; C{None} if it has none."""
    for node in parse(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def bound_names(path: Path) -> set[str]:
    """What the module's top level gives a name to."""
    bound = set()
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound.update((each.asname or each.name) for each in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            bound.update(each.id for each in ast.walk(node) if isinstance(each, ast.Name))
    return bound


def constants_then_classes_then_the_rest(name: str) -> tuple[int, str]:
    """The order of ruff's RUF022."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def untrue_lists_of_public_names(root: Path) -> Iterator[str]:
    for module, path in modules(root).items():
        names = public_names(path)
        if names is None:
            yield f"{module}: no __all__"
        elif names != sorted(set(names), key=constants_then_classes_then_the_rest):
            yield f"{module}: not sorted, or a name twice"
        else:
            yield from (f"{module}: no {each}" for each in names if each not in bound_names(path))


def public_names_nobody_agreed_on(root: Path) -> Iterator[str]:
    names = public_names(root / "kolus" / "__init__.py") or []
    yield from sorted(set(names) ^ set(PUBLIC.split()))


def imports_of_the_global_reactor(root: Path) -> Iterator[str]:
    """Everywhere but in C{tap.py}, which twistd loads when it has chosen the reactor."""
    for name, path in shipped(root):
        for node in ast.walk(parse(path)):
            imported = [each.name for each in getattr(node, "names", ()) if hasattr(each, "name")]
            if isinstance(node, ast.ImportFrom):
                imported = [f"{node.module}.{each}" for each in imported]
            if "twisted.internet.reactor" in imported and name != "kolus/tap.py":
                yield f"{name}, line {node.lineno}"


# This repository keeps the rules


def test_every_module_imports_only_floors_below_its_own() -> None:
    assert list(imports_of_a_floor_not_below(ROOT)) == []


def test_every_module_has_a_floor() -> None:
    assert list(modules_without_a_floor(ROOT)) == []


def test_every_entry_of_the_floors_is_a_module() -> None:
    assert list(floors_without_a_module(ROOT)) == []


def test_no_module_is_longer_than_400_lines() -> None:
    assert list(files_that_are_too_long(ROOT)) == []


def test_no_module_begins_with_an_underscore() -> None:
    assert list(files_with_an_underscore(ROOT)) == []


def test_the_folders_of_twisted_are_no_packages_of_ours() -> None:
    assert list(packages_where_others_have_theirs(ROOT)) == []


def test_every_module_begins_with_a_sentence() -> None:
    assert list(files_without_an_opening_sentence(ROOT)) == []


def test_every_module_with_code_postpones_its_annotations() -> None:
    assert list(files_without_postponed_annotations(ROOT)) == []


def test_every_list_of_public_names_is_sorted_and_true() -> None:
    assert list(untrue_lists_of_public_names(ROOT)) == []


def test_the_package_gives_the_agreed_names_and_no_other() -> None:
    assert list(public_names_nobody_agreed_on(ROOT)) == []


def test_the_global_reactor_is_imported_by_the_plugin_alone() -> None:
    assert list(imports_of_the_global_reactor(ROOT)) == []


# Each rule can be broken

Rule = Callable[[Path], Iterator[str]]

BROKEN: dict[str, tuple[Rule, dict[str, str], list[str]]] = {
    "an import of a higher floor": (
        imports_of_a_floor_not_below,
        {"kolus/backend.py": "from kolus.pool import Pool\n"},
        ["backend (floor 1) imports kolus.pool (floor 5c)"],
    ),
    "an import of the same floor": (
        imports_of_a_floor_not_below,
        {"kolus/roster.py": "import kolus.journal\n"},
        ["roster (floor 4b) imports kolus.journal (floor 4b)"],
    ),
    "an import inside a function": (
        imports_of_a_floor_not_below,
        {"kolus/lease.py": "def late():\n    from kolus import manager\n"},
        ["lease (floor 2) imports kolus.manager (floor 4g)"],
    ),
    "an import of the package itself": (
        imports_of_a_floor_not_below,
        {"kolus/tap.py": "from kolus import Pool\n"},
        ["tap (floor 7) imports kolus.Pool (floor unknown)"],
    ),
    "a relative import": (
        imports_of_a_floor_not_below,
        {"kolus/pool.py": "from .errors import KolusError\n"},
        ["pool (floor 5c) imports .errors (floor unknown)"],
    ),
    "an import of the test kit": (
        imports_of_a_floor_not_below,
        {"kolus/tap.py": "from kolus.testing import result_of\n"},
        ["tap (floor 7) imports kolus.testing (floor 8)"],
    ),
    "a test kit that needs a front": (
        imports_of_a_floor_not_below,
        {"kolus/testing/contract.py": "from kolus.tunnel.end import End\n"},
        ["testing.contract (floor 8) imports kolus.tunnel.end (floor 6)"],
    ),
    "a module that no floor knows": (
        modules_without_a_floor,
        {"kolus/errors.py": "", "kolus/miscellany.py": ""},
        ["miscellany"],
    ),
    "a floor's module that is gone": (
        floors_without_a_module,
        {f"kolus/{each}.py": "" for each in " ".join(FLOORS.values()).split() if each != "pool"},
        ["pool"],
    ),
    "a module of 401 lines": (
        files_that_are_too_long,
        {"kolus/pool.py": "pass\n" * 401, "kolus/tap.py": "pass\n" * 400},
        ["kolus/pool.py: 401 lines"],
    ),
    "a module with an underscore": (
        files_with_an_underscore,
        {"kolus/__init__.py": "", "kolus/tunnel/_end.py": ""},
        ["kolus/tunnel/_end.py"],
    ),
    "a package in the place of Twisted's": (
        packages_where_others_have_theirs,
        {"twisted/plugins/__init__.py": "", "twisted/plugins/kolus_plugin.py": ""},
        ["twisted/plugins/__init__.py"],
    ),
    "a docstring that begins with half a sentence": (
        files_without_an_opening_sentence,
        {"kolus/pool.py": '"""Of pools\n\nand more."""\n', "kolus/tap.py": '"""A tap."""\n'},
        ["kolus/pool.py"],
    ),
    "annotations that are evaluated": (
        files_without_postponed_annotations,
        {"kolus/pool.py": "class Pool: ...\n", "kolus/__init__.py": "import os\n"},
        ["kolus/pool.py"],
    ),
    "no list of public names": (
        untrue_lists_of_public_names,
        {"kolus/pool.py": "Pool = 1\n"},
        ["pool: no __all__"],
    ),
    "public names out of order": (
        untrue_lists_of_public_names,
        {"kolus/pool.py": "a = B = 1\n__all__ = ['a', 'B']\n"},
        ["pool: not sorted, or a name twice"],
    ),
    "a public name that is not there": (
        untrue_lists_of_public_names,
        {"kolus/pool.py": "__all__ = ['Pool', 'Sea']\nclass Pool: ...\n"},
        ["pool: no Sea"],
    ),
    "a public name too many, and one too few": (
        public_names_nobody_agreed_on,
        {"kolus/__init__.py": f"__all__ = {[*PUBLIC.split()[1:], 'Sea']!r}\n"},
        ["Backend", "Sea"],
    ),
    "the global reactor in a library module": (
        imports_of_the_global_reactor,
        {
            "kolus/pool.py": "def now():\n    from twisted.internet import defer, reactor\n",
            "kolus/tap.py": "from twisted.internet import reactor\n",
        },
        ["kolus/pool.py, line 2"],
    ),
}


@pytest.mark.parametrize(("rule", "files", "places"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(
    rule: Rule, files: dict[str, str], places: list[str], tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert list(rule(tmp_path)) == places


def test_an_import_for_types_alone_may_look_up(tmp_path: Path) -> None:
    lease = tmp_path / "kolus" / "lease.py"
    lease.parent.mkdir()
    lease.write_text("if TYPE_CHECKING:\n    from kolus.pool import Pool\n", encoding="utf-8")
    assert list(imports_of_a_floor_not_below(tmp_path)) == []
