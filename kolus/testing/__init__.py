"""For tests of programs that use kolus: a backend on a clock, and a manager's contract."""

from kolus.testing.backend import FakeBackend, FakeConnection
from kolus.testing.contract import MANAGER_CONTRACT, check_manager, run_clause
from kolus.testing.results import NotFired, result_of
from kolus.testing.rig import MakeManager, Rig

__all__ = [
    "MANAGER_CONTRACT",
    "FakeBackend",
    "FakeConnection",
    "MakeManager",
    "NotFired",
    "Rig",
    "check_manager",
    "result_of",
    "run_clause",
]
