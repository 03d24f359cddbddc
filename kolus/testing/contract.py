"""The contract of C{IKolusManager} as a test suite, for every implementation.

Each clause is a function that takes a L{Rig}; its name says what it promises. C{check_manager} runs
all clauses. C{MANAGER_CONTRACT} lists them, so a test runner can show each by its name.
"""

from __future__ import annotations

from collections.abc import Callable

from kolus.testing.leasing_clauses import LEASING
from kolus.testing.operation_clauses import OPERATION
from kolus.testing.rig import MakeManager, Rig

__all__ = ["MANAGER_CONTRACT", "check_manager", "run_clause"]

MANAGER_CONTRACT: tuple[Callable[[Rig], None], ...] = LEASING + OPERATION
"""All clauses, in the order in which to read them."""


def check_manager(make: MakeManager) -> None:
    """Run all clauses, each with a new manager made by C{make}.

    @raise AssertionError: at least one clause failed; the message names all that did.
    """
    broken = []
    for clause in MANAGER_CONTRACT:
        try:
            run_clause(clause, make)
        except Exception as error:
            broken.append(f"{clause.__name__}: {type(error).__name__}: {error}")
    assert not broken, "the contract of IKolusManager is broken:\n" + "\n".join(broken)


def run_clause(clause: Callable[[Rig], None], make: MakeManager) -> None:
    """Run one clause with a new manager, close the manager, and check that nothing is left."""
    rig = Rig(make)
    clause(rig)
    rig.end()
