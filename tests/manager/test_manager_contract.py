"""The contract of managers, run on every kind of manager, and on managers that break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kolus import ConnectionManager, Policy, SharedManager
from kolus.interfaces import IKolusManager
from kolus.testing import MANAGER_CONTRACT, Rig, check_manager, run_clause


def connection_manager(*args: Any) -> ConnectionManager[Any]:
    return ConnectionManager(*args)


def fifo_manager(*args: Any) -> ConnectionManager[Any]:
    *where, policy = args
    settings = {name: getattr(policy, name) for name in ("limit", "acquire_timeout")}
    return ConnectionManager(
        *where, Policy(**settings, max_waiters=policy.max_waiters, reuse="fifo")
    )


def shared_manager(*args: Any) -> SharedManager[Any]:
    *where, policy = args
    return SharedManager(*where, replace(policy, slots=3))


def manager_of_one_slot(*args: Any) -> SharedManager[Any]:
    *where, policy = args
    return SharedManager(*where, replace(policy, slots=1))


@pytest.mark.parametrize(
    "make", [connection_manager, fifo_manager, shared_manager, manager_of_one_slot]
)
@pytest.mark.parametrize("clause", MANAGER_CONTRACT, ids=lambda clause: clause.__name__)
def test_every_manager_keeps_the_contract(
    clause: Callable[[Rig], None], make: Callable[..., IKolusManager]
) -> None:
    run_clause(clause, make)


def test_check_manager_runs_every_clause() -> None:
    check_manager(ConnectionManager)


class ServesEverybody(ConnectionManager[Any]):
    """Breaks the boundary of the ident."""

    def try_connect(self, ident: object, owner: Any = None) -> Any:
        return super().try_connect(self.ident, owner)


class Barges(ConnectionManager[Any]):
    """Serves the youngest request first."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        queue = self.queue

        def pop() -> Any:
            waiter = next(reversed(queue.waiting))
            queue.pop(waiter)
            return waiter

        queue.popleft = pop  # type: ignore[method-assign]


class NeverReclaims(ConnectionManager[Any]):
    """Loses the slot of a caller that died."""

    def _reclaim(self, connection: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (ServesEverybody, "another_ident_is_refused"),
        (Barges, "requests_are_served_in_order"),
        (NeverReclaims, "a_forgotten_lease_is_reclaimed"),
    ],
)
def test_check_manager_names_the_clause_that_is_broken(
    broken: type[ConnectionManager[Any]], clause: str
) -> None:
    with pytest.raises(AssertionError, match=clause) as caught:
        check_manager(broken)
    assert "provides_the_interface" not in str(caught.value)  # not all of it is broken
