"""Messages name the line of the user's program, not lines of kolus or of Deferreds."""

from __future__ import annotations

import _thread
import queue
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, inlineCallbacks

from kolus.support import place, stack
from tests.rigs.patience import PATIENCE

HERE = __file__


def inside(module: str, name: str, **known: Any) -> Callable[[], Any]:
    """A function of C{module} that calls what it knows as C{call}."""
    names: dict[str, Any] = {"__name__": module, **known}
    exec(compile(f"def {name}(): return call()", f"/far/{module}.py", "exec"), names)
    function: Callable[[], Any] = names[name]
    return function


def test_a_place_is_a_line_of_the_caller() -> None:
    line = test_a_place_is_a_line_of_the_caller.__code__.co_firstlineno + 2
    assert place() == f"{HERE}:{line} in test_a_place_is_a_line_of_the_caller"


@pytest.mark.parametrize("module", ["kolus", "kolus.pool", "kolus.tunnel.end"])
def test_a_place_is_outside_of_kolus(module: str) -> None:
    assert inside(module, "connect", call=place)().startswith(f"{HERE}:")


def test_a_package_whose_name_begins_as_ours_is_not_ours() -> None:
    assert inside("kolusion", "lease", call=place)() == "/far/kolusion.py:1 in lease"


def test_a_place_in_a_coroutine_is_found_past_its_deferred() -> None:
    found: list[str] = []
    fired: Deferred[None] = Deferred()

    @inlineCallbacks
    def work() -> Any:
        yield fired
        found.append(place())
        yield Deferred.fromCoroutine(later())

    async def later() -> None:
        found.append(inside("twisted.internet.defer", "_inline", call=place)())

    work()
    fired.callback(None)
    assert [each.rpartition(".")[2] for each in found] == ["work", "later"]


def test_a_stack_shows_the_nearest_calls_outside_of_kolus_and_their_source() -> None:
    connect = inside("kolus.manager.exclusive", "connect", call=stack)
    select = inside("kolus.pool", "select", call=connect)
    calls = select()
    assert "/far/" not in calls
    assert calls.endswith(
        "in test_a_stack_shows_the_nearest_calls_outside_of_kolus_and_their_source\n"
        "    calls = select()\n"
    )


def test_a_stack_shows_twelve_calls_at_the_most() -> None:
    def call(depth: int) -> str:
        return call(depth - 1) if depth else stack()

    assert call(20).count('  File "') == 12


def test_a_call_whose_source_is_unknown_is_shown_without_it() -> None:
    calls = inside("elsewhere", "lease", call=stack)()
    assert calls.endswith('  File "/far/elsewhere.py", line 1, in lease\n')


def test_there_may_be_no_place_outside_of_kolus() -> None:
    found: queue.Queue[str] = queue.Queue()
    look = inside("kolus.pool", "connect", call=place)
    names = {"__name__": "kolus.daemon.demo.demo", "found": found, "look": look}
    exec("def main(): found.put(look())", names)
    _thread.start_new_thread(names["main"], ())
    assert found.get(timeout=PATIENCE) == "nowhere outside of kolus"
