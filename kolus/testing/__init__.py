"""The public test kit: a backend without a network, and the contract of a manager as a test suite.

It is for tests of programs that use kolus. It may use every other package but the daemon, and no
other package uses it.
"""

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
