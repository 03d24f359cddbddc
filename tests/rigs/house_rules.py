"""The rules of the house: imports, the length of modules, and the public names.

Each rule is a function that takes the root of a tree of files, and yields the places that break it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "LAYERS",
    "MOST_LAYERS_IN_A_PACKAGE",
    "PUBLIC",
    "classes_that_inherit_from_heirs",
    "files_that_are_half_merged",
    "files_that_are_too_long",
    "files_with_an_underscore",
    "files_without_an_opening_sentence",
    "files_without_postponed_annotations",
    "imports_of_a_layer_not_below",
    "imports_of_the_global_reactor",
    "imports_past_the_init",
    "layers_without_a_module",
    "modules_without_a_layer",
    "packages_that_are_too_deep",
    "packages_where_others_have_theirs",
    "private_names_of_a_manager",
    "public_names_nobody_agreed_on",
    "types_of_a_higher_package",
    "untrue_lists_of_public_names",
]

LAYERS = (
    "support proxy_protocol errors backoff status events",
    "endpoints lease balance health watching context tls",
    "backend policy interfaces connection",
    "manager sources metrics otel durations checking tunnel",
    "group config prometheus",
    "pool admin cli",
    "service daemon testing clients aio __main__",
    "__init__",
)
"""The modules and packages of each layer, the lowest first; the last has only the public names.
A layer may import lower layers. Seven are enough below the public names: who adds one looks first
for what stands on a wrong one."""

MOST_LAYERS_IN_A_PACKAGE = 5
"""The longest chain of imports between the modules of one package."""

MOST_LINES = 400

_WITH_FAMILIES = ("clients", "errors", "events")

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


# Layers


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
    """The entry of a module in the table of layers: the module itself, or its package."""
    return module.partition(".")[0]


def layer_of(module: str) -> int:
    """A module's layer, counted from 1; 0 if it has none."""
    layers = enumerate(LAYERS, 1)
    return next((number for number, each in layers if entry_of(module) in each.split()), 0)


def imports_of_a_layer_not_below(root: Path) -> Iterator[str]:
    for module, path in modules(root).items():
        layer = layer_of(module)
        for name in imports(parse(path)):
            other = name.removeprefix("kolus.")
            below = layer_of(other)
            if not 0 < below < layer and (entry_of(other) != entry_of(module) or not below):
                yield f"{module} (layer {layer}) imports {name} (layer {below or 'unknown'})"


def imports_past_the_init(root: Path) -> Iterator[str]:
    """Imports of a module in another package: they must be from the package itself."""
    found = modules(root)
    packages = {module.partition(".")[0] for module in found if "." in module}
    for module, path in found.items():
        for name in imports(parse(path)):
            package, _, inner = name.removeprefix("kolus.").partition(".")
            if inner and package in packages and package != entry_of(module):
                yield f"{module} imports {name} past {package}/__init__.py"


def packages_that_are_too_deep(root: Path) -> Iterator[str]:
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
        for package in sorted({entry_of(module) for module in graph}):
            longest = max(
                (chain for at, chain in chains.items() if entry_of(at) == package), key=len
            )
            if longest[0] in longest[1:]:
                yield f"{package}: a circle, {' > '.join(longest)}"
            elif len(longest) > MOST_LAYERS_IN_A_PACKAGE:
                yield f"{package}: {len(longest)} layers, {' > '.join(longest)}"


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


def types_of_a_higher_package(root: Path) -> Iterator[str]:
    """What is imported for type checking alone comes from a lower layer, too; but a word, a module
    at the top, may be named anywhere: a status names its manager's interface."""
    found = modules(root)
    packages = {module.partition(".")[0] for module in found if "." in module}
    for module, path in found.items():
        for node in ast.walk(parse(path)):
            name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            other = name.removeprefix("kolus.")
            is_package = name.startswith("kolus.") and entry_of(other) in packages - {
                entry_of(module)
            }
            if is_package and layer_of(other) >= layer_of(module):
                yield f"{module} names {name}, which is not below it"


def modules_without_a_layer(root: Path) -> Iterator[str]:
    yield from (module for module in modules(root) if not layer_of(module))


def layers_without_a_module(root: Path) -> Iterator[str]:
    found = {entry_of(module) for module in modules(root)}
    yield from (each for each in " ".join(LAYERS).split() if each not in found)


# Files


def files_that_are_too_long(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MOST_LINES:
            yield f"{name}: {lines} lines"


def files_that_are_half_merged(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        if re.search("^(<<<<<<<|>>>>>>>) ", path.read_text(encoding="utf-8"), re.M):
            yield name


def files_with_an_underscore(root: Path) -> Iterator[str]:
    for name, path in shipped(root):
        if path.stem.startswith("_") and path.stem not in ("__init__", "__main__"):
            yield name


def packages_where_others_have_theirs(root: Path) -> Iterator[str]:
    """An C{__init__.py} of ours in C{twisted} would replace Twisted's own."""
    for path in sorted((root / "twisted").rglob("__init__.py")):
        yield path.relative_to(root).as_posix()


# Classes


def classes_of(module: str, found: dict[str, Path]) -> dict[str, ast.ClassDef | str]:
    """What the names of a module stand for: its own classes, and where others come from."""
    names: dict[str, ast.ClassDef | str] = {}
    for node in parse(found[module]).body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kolus."):
            origin = (node.module or "").removeprefix("kolus.")
            names.update((each.asname or each.name, f"{origin}:{each.name}") for each in node.names)
    return names


def classes_that_inherit_from_heirs(root: Path) -> Iterator[str]:
    """Classes below another that is itself below one. Errors and events are words, in families; and
    a client may inherit from what the core has composed."""
    found = modules(root)
    known = {module: classes_of(module, found) for module in found}

    def bases(module: str, name: str) -> list[tuple[str, str]]:
        its = known.get(module, {}).get(name)
        if isinstance(its, str):
            origin, _, its_name = its.partition(":")
            return bases(origin, its_name)
        names = [ast.unparse(each).partition("[")[0] for each in its.bases] if its else []
        return [(module, each) for each in names if each in known[module]]

    for module in found:
        for name, its in known[module].items():
            if isinstance(its, ast.ClassDef) and entry_of(module) not in _WITH_FAMILIES:
                yield from (
                    f"{module}: {name} is below {above}, which is below {top}"
                    for _, above in bases(module, name)
                    for _, top in bases(module, above)
                )


def private_names_of_a_manager(root: Path) -> Iterator[str]:
    """Names with an underscore that a manager's parts, or others, take from the manager."""
    for module, path in modules(root).items():
        for node in ast.walk(parse(path)):
            if not (isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr)):
                continue
            owner = ast.unparse(node.value).rpartition(".")[2]
            if owner in ("manager", "_manager", "member"):
                yield f"{module}, line {node.lineno}: {ast.unparse(node)}"


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
    """The names that the module's top level defines, also for type checkers only."""
    bound = set()
    body = parse(path).body
    for node in [*body, *[each for its in body if isinstance(its, ast.If) for each in its.body]]:
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
