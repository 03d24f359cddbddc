"""The rules of the house: one test applies each to this repository, and one to a small tree that
breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rigs.house_rules import (
    LAYERS,
    MOST_LAYERS_IN_A_PACKAGE,
    PUBLIC,
    classes_that_inherit_from_heirs,
    files_that_are_half_merged,
    files_that_are_too_long,
    files_with_an_underscore,
    files_without_an_opening_sentence,
    files_without_postponed_annotations,
    imports_of_a_layer_not_below,
    imports_of_the_global_reactor,
    imports_past_the_init,
    layers_without_a_module,
    modules_without_a_layer,
    packages_that_are_too_deep,
    packages_where_others_have_theirs,
    private_names_of_a_manager,
    public_names_nobody_agreed_on,
    types_of_a_higher_package,
    untrue_lists_of_public_names,
)

ROOT = Path(__file__).parent.parent

# This repository keeps the rules


def test_every_module_imports_only_layers_below_its_own() -> None:
    assert list(imports_of_a_layer_not_below(ROOT)) == []


def test_every_module_has_a_layer() -> None:
    assert list(modules_without_a_layer(ROOT)) == []


def test_nobody_imports_past_the_init() -> None:
    assert list(imports_past_the_init(ROOT)) == []


def test_no_type_is_imported_from_a_higher_room() -> None:
    assert list(types_of_a_higher_package(ROOT)) == []


def test_no_room_is_too_deep_or_has_a_circle() -> None:
    assert list(packages_that_are_too_deep(ROOT)) == []


def test_there_are_seven_layers_below_the_public_names() -> None:
    assert len(LAYERS) == 7 + 1


def test_every_entry_of_the_layers_is_a_module() -> None:
    assert list(layers_without_a_module(ROOT)) == []


def test_no_module_is_longer_than_400_lines() -> None:
    assert list(files_that_are_too_long(ROOT)) == []


def test_no_module_has_marks_of_a_merge() -> None:
    assert list(files_that_are_half_merged(ROOT)) == []


def test_no_module_begins_with_an_underscore() -> None:
    assert list(files_with_an_underscore(ROOT)) == []


def test_the_folders_of_twisted_are_no_packages_of_ours() -> None:
    assert list(packages_where_others_have_theirs(ROOT)) == []


def test_inheritance_has_one_level() -> None:
    assert list(classes_that_inherit_from_heirs(ROOT)) == []


def test_nobody_takes_private_names_from_a_manager() -> None:
    assert list(private_names_of_a_manager(ROOT)) == []


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
    "an import of a higher layer": (
        imports_of_a_layer_not_below,
        {"kolus/backend.py": "from kolus.pool import Pool\n"},
        ["backend (layer 3) imports kolus.pool (layer 6)"],
    ),
    "an import of the same layer": (
        imports_of_a_layer_not_below,
        {"kolus/manager/queue.py": "import kolus.sources\n"},
        ["manager.queue (layer 4) imports kolus.sources (layer 4)"],
    ),
    "an import inside a function": (
        imports_of_a_layer_not_below,
        {"kolus/lease.py": "def late():\n    from kolus import manager\n"},
        ["lease (layer 2) imports kolus.manager (layer 4)"],
    ),
    "an import of the package itself": (
        imports_of_a_layer_not_below,
        {"kolus/daemon/tap.py": "from kolus import Pool\n"},
        ["daemon.tap (layer 7) imports kolus.Pool (layer unknown)"],
    ),
    "a relative import": (
        imports_of_a_layer_not_below,
        {"kolus/pool.py": "from .errors import KolusError\n"},
        ["pool (layer 6) imports .errors (layer unknown)"],
    ),
    "an import of the test kit": (
        imports_of_a_layer_not_below,
        {"kolus/daemon/tap.py": "from kolus.testing import result_of\n"},
        ["daemon.tap (layer 7) imports kolus.testing (layer 7)"],
    ),
    "an import past the __init__": (
        imports_past_the_init,
        {
            "kolus/group/queue.py": "from kolus.manager.queue import Waiter\n",
            "kolus/manager/queue.py": "from kolus.manager.connection import Connection\n",
            "kolus/pool.py": "from kolus.manager import Waiter\n",
        },
        ["group.queue imports kolus.manager.queue past manager/__init__.py"],
    ),
    "a type of a higher package": (
        types_of_a_higher_package,
        {
            "kolus/health/panic.py": "if TYPE_CHECKING:\n    from kolus.manager import Records\n",
            "kolus/manager/base.py": "if TYPE_CHECKING:\n    from kolus.health import Panic\n",
            "kolus/lease.py": "if TYPE_CHECKING:\n    from kolus.interfaces import ISlots\n",
        },
        ["health.panic names kolus.manager, which is not below it"],
    ),
    "a circle in a package": (
        packages_that_are_too_deep,
        {
            "kolus/manager/queue.py": "from kolus.manager.connection import Connection\n",
            "kolus/manager/connection.py": "from kolus.manager.queue import Queue\n",
        },
        ["manager: a circle, manager.connection > manager.queue > manager.connection"],
    ),
    "a circle of packages in a package": (
        packages_that_are_too_deep,
        {
            "kolus/manager/waiting/queue.py": "import kolus.manager.backend.record\n",
            "kolus/manager/backend/turns.py": "import kolus.manager.waiting.admission\n",
            "kolus/manager/backend/record.py": "",
            "kolus/manager/waiting/admission.py": "",
        },
        ["manager: a circle, manager.backend > manager.waiting > manager.backend"],
    ),
    "a package that is too deep": (
        packages_that_are_too_deep,
        {
            f"kolus/manager/m{each}.py": f"import kolus.manager.m{each + 1}\n"
            for each in range(MOST_LAYERS_IN_A_PACKAGE + 1)
        },
        [
            f"manager: {MOST_LAYERS_IN_A_PACKAGE + 1} layers, "
            + " > ".join(f"manager.m{each}" for each in range(MOST_LAYERS_IN_A_PACKAGE + 1))
        ],
    ),
    "a module that no layer knows": (
        modules_without_a_layer,
        {"kolus/errors.py": "", "kolus/miscellany.py": ""},
        ["miscellany"],
    ),
    "a layer's module that is gone": (
        layers_without_a_module,
        {f"kolus/{each}.py": "" for each in " ".join(LAYERS).split() if each != "pool"},
        ["pool"],
    ),
    "a module of 401 lines": (
        files_that_are_too_long,
        {"kolus/pool.py": "pass\n" * 401, "kolus/daemon/tap.py": "pass\n" * 400},
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
    "a second level of inheritance": (
        classes_that_inherit_from_heirs,
        {
            "kolus/errors.py": "class A: ...\nclass B(A): ...\nclass C(B): ...\n",
            "kolus/manager/base.py": "class Base(Generic[P]): ...\n",
            "kolus/manager/__init__.py": "from kolus.manager.base import Base as Common\n",
            "kolus/group/queue.py": (
                "from kolus.manager import Common\n"
                "class Queue(Common[P]): ...\n"
                "class ShortQueue(Queue): ...\n"
            ),
        },
        ["group.queue: ShortQueue is below Queue, which is below Common"],
    ),
    "a private name of a manager": (
        private_names_of_a_manager,
        {
            "kolus/manager/base.py": "def a(self):\n    self._b.c()\n    manager.__class__\n",
            "kolus/manager/checker.py": "def a(self, manager):\n    self._manager._b.c()\n",
        },
        ["manager.checker, line 2: self._manager._b"],
    ),
    "a docstring that begins with half a sentence": (
        files_without_an_opening_sentence,
        {"kolus/pool.py": '"""Of pools\n\nand more."""\n', "kolus/daemon/tap.py": '"""A tap."""\n'},
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
    "a merge that was not finished": (
        files_that_are_half_merged,
        {"kolus/pool.py": '"""A pool.\n<<<<<<< HEAD\n"""\n', "kolus/lease.py": "a <<<<<<< b\n"},
        ["kolus/pool.py"],
    ),
    "the global reactor in a library module": (
        imports_of_the_global_reactor,
        {
            "kolus/pool.py": "def now():\n    from twisted.internet import defer, reactor\n",
            "kolus/daemon/tap.py": "from twisted.internet import reactor\n",
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
    assert list(imports_of_a_layer_not_below(tmp_path)) == []
