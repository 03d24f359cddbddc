"""The rules of the house: imports, the length of modules, and the public names.

Each rule is a function that takes the root of a tree of files, and yields the places that break it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "FLOORS",
    "MOST_FLOORS_IN_A_ROOM",
    "PUBLIC",
    "files_that_are_too_long",
    "files_with_an_underscore",
    "files_without_an_opening_sentence",
    "files_without_postponed_annotations",
    "floors_without_a_module",
    "imports_of_a_floor_not_below",
    "imports_of_the_global_reactor",
    "imports_past_a_door",
    "modules_without_a_floor",
    "packages_where_others_have_theirs",
    "public_names_nobody_agreed_on",
    "rooms_that_are_too_deep",
    "types_of_a_higher_room",
    "untrue_lists_of_public_names",
]

FLOORS = (
    "errors backoff status support events proxy_protocol",
    "endpoints lease balance health watching context tls",
    "backend policy interfaces connection tunnel",
    "manager sources metrics otel durations checking",
    "group config prometheus",
    "pool admin cli",
    "service daemon testing clients aio __main__",
    "__init__",
)
"""The modules and packages of each floor, the lowest first; the last is the roof, with only the
public names. A floor may import lower floors."""

MOST_FLOORS_IN_A_ROOM = 5
"""The longest chain of imports between the modules of one package."""

MOST_LINES = 400

PUBLIC = """
    Backend Closed ConnectContext ConnectFailed ConnectionManager Draining Ejection Group
    GroupStatus IKolusManager ISlots ISource KolusError Lease LeaseError LeaseTimeout NoBackend
    Policy Pool PoolFull PoolService Rejected SharedManager Status WrongIdent
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
    """Every Python file that an installation contains, with its path from C{root}."""
    for folder in ("kolus", "twisted"):
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


# Floors


def imports(tree: ast.AST) -> Iterator[str]:
    """The imports of kolus in the code, also inside functions; a relative import begins with C{.}.

    Imports under C{if TYPE_CHECKING:} never run, so they do not count. Types may look up: a status
    names its manager, and the manager's interface names statuses.
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


def entry_of(module: str) -> str:
    """The entry of a module in the table of floors: the module itself, or its package."""
    return module.partition(".")[0]


def floor_of(module: str) -> int:
    """A module's floor, counted from 1; 0 if it has none."""
    floors = enumerate(FLOORS, 1)
    return next((number for number, each in floors if entry_of(module) in each.split()), 0)


def imports_of_a_floor_not_below(root: Path) -> Iterator[str]:
    for module, path in modules(root).items():
        floor = floor_of(module)
        for name in imports(parse(path)):
            other = name.removeprefix("kolus.")
            below = floor_of(other)
            if not 0 < below < floor and (entry_of(other) != entry_of(module) or not below):
                yield f"{module} (floor {floor}) imports {name} (floor {below or 'unknown'})"


def imports_past_a_door(root: Path) -> Iterator[str]:
    """Imports of a module in another package: they must be from the package itself."""
    found = modules(root)
    packages = {module.partition(".")[0] for module in found if "." in module}
    for module, path in found.items():
        for name in imports(parse(path)):
            room, _, inner = name.removeprefix("kolus.").partition(".")
            if inner and room in packages and room != entry_of(module):
                yield f"{module} imports {name} past the door of {room}"


def rooms_that_are_too_deep(root: Path) -> Iterator[str]:
    """Packages with a chain of imports that is too long, or with a circle: of modules, or of the
    packages in them."""
    inner = {
        module: {each.removeprefix("kolus.") for each in imports(parse(path))}
        for module, path in modules(root).items()
        if "." in module
    }
    parts: dict[str, set[str]] = {}
    for module, others in inner.items():
        part = part_of(module, root)
        its = {part_of(each, root) for each in others if each in inner}
        parts.setdefault(part, set()).update(its - {part})
    for graph in (inner, parts):
        chains = {module: longest_chain(module, graph) for module in graph}
        for room in sorted({entry_of(module) for module in graph}):
            longest = max((chain for at, chain in chains.items() if entry_of(at) == room), key=len)
            if longest[0] in longest[1:]:
                yield f"{room}: a circle, {' > '.join(longest)}"
            elif len(longest) > MOST_FLOORS_IN_A_ROOM:
                yield f"{room}: {len(longest)} floors, {' > '.join(longest)}"


def part_of(module: str, root: Path) -> str:
    """The package that a module is in, or is."""
    is_package = (root / "kolus" / module.replace(".", "/")).is_dir()
    return module if is_package else module.rpartition(".")[0]


def longest_chain(
    module: str, inner: dict[str, set[str]], above: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The longest chain of imports from a module, inside its package."""
    if module in above:
        return (module,)
    below = [each for each in inner[module] if each in inner and entry_of(each) == entry_of(module)]
    chains = [longest_chain(each, inner, (*above, module)) for each in sorted(below)]
    return (module, *max(chains, key=len, default=()))


def types_of_a_higher_room(root: Path) -> Iterator[str]:
    """What is imported for type checking alone comes from a lower floor, too; but a word, a module
    at the top, may be named anywhere: a status names its manager's interface."""
    found = modules(root)
    rooms = {module.partition(".")[0] for module in found if "." in module}
    for module, path in found.items():
        for node in ast.walk(parse(path)):
            name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            other = name.removeprefix("kolus.")
            is_room = name.startswith("kolus.") and entry_of(other) in rooms - {entry_of(module)}
            if is_room and floor_of(other) >= floor_of(module):
                yield f"{module} names {name}, which is not below it"


def modules_without_a_floor(root: Path) -> Iterator[str]:
    yield from (module for module in modules(root) if not floor_of(module))


def floors_without_a_module(root: Path) -> Iterator[str]:
    found = {entry_of(module) for module in modules(root)}
    yield from (each for each in " ".join(FLOORS).split() if each not in found)


# Files


def files_that_are_too_long(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MOST_LINES:
            yield f"{name}: {lines} lines"


def files_with_an_underscore(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        if path.stem.startswith("_") and path.stem not in ("__init__", "__main__"):
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
    """Checks only files that define something: a list of imports has no annotations."""
    for name, path in shipped(root):
        tree = parse(path)
        defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
        if defines and not any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
        ):
            yield name


def public_names(path: Path) -> list[str] | None:
    """The names in the module's C{__all__}; C{None} if it has none."""
    for node in parse(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def bound_names(path: Path) -> set[str]:
    """The names that the module's top level defines."""
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
    """Everywhere but in C{daemon/tap.py}, which twistd loads when it has chosen the reactor."""
    for name, path in shipped(root):
        for node in ast.walk(parse(path)):
            imported = [each.name for each in getattr(node, "names", ()) if hasattr(each, "name")]
            if isinstance(node, ast.ImportFrom):
                imported = [f"{node.module}.{each}" for each in imported]
            if "twisted.internet.reactor" in imported and name != "kolus/daemon/tap.py":
                yield f"{name}, line {node.lineno}"
