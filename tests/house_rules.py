"""The house: who may import whom, how large a module may be, and what is public.

Each rule is a function that takes the root of a tree of files and gives the places where the rule
is broken.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "FLOORS",
    "PUBLIC",
    "files_that_are_too_long",
    "files_with_an_underscore",
    "files_without_an_opening_sentence",
    "files_without_postponed_annotations",
    "floors_without_a_module",
    "imports_of_a_floor_not_below",
    "imports_of_the_global_reactor",
    "modules_without_a_floor",
    "packages_where_others_have_theirs",
    "public_names_nobody_agreed_on",
    "untrue_lists_of_public_names",
]

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
