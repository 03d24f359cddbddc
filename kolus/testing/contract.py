"""The contract of C{IKolusManager} as a suite: for ours, and for anybody's manager.

Each clause is a function that gets a L{Rig}, named for what it promises. C{check_manager} runs
them all; C{MANAGER_CONTRACT} lists them, for a test runner that shows each by its name.
"""

from __future__ import annotations

from collections.abc import Callable

from kolus.testing.leasing_clauses import LEASING
from kolus.testing.operation_clauses import OPERATION
from kolus.testing.rig import MakeManager, Rig

__all__ = ["MANAGER_CONTRACT", "check_manager", "run_clause"]

MANAGER_CONTRACT: tuple[Callable[[Rig], None], ...] = LEASING + OPERATION
"""Every clause, in the order in which a reader would ask for them."""


def check_manager(make: MakeManager) -> None:
    """Run the whole contract over the managers that C{make} makes.

    @raise AssertionError: a clause does not hold; the message names every clause that does not.
    """
    broken = []
    for clause in MANAGER_CONTRACT:
        try:
            run_clause(clause, make)
        except Exception as error:
            broken.append(f"{clause.__name__}: {type(error).__name__}: {error}")
    assert not broken, "the contract of IKolusManager is broken:\n" + "\n".join(broken)


def run_clause(clause: Callable[[Rig], None], make: MakeManager) -> None:
    """Run one clause over a new manager, and close that."""
    rig = Rig(make)
    clause(rig)
    rig.end()
