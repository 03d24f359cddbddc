"""The test kit in trial's own C{SynchronousTestCase}, and the whole contract of a manager there.

C{trial tests} finds these; pytest runs them too.
"""

# ruff: noqa: PT009, PT027 (its assertions are trial's)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kolus import Backend, ConnectFailed, ConnectionManager, LeaseTimeout, Policy, Pool
from kolus.testing import MANAGER_CONTRACT, FakeBackend, NotFired, result_of, run_clause


class ContractTests(SynchronousTestCase):
    """Has a test for each clause."""


def _test_of(clause: Callable[..., None]) -> Callable[[ContractTests], None]:
    def test(self: ContractTests) -> None:
        run_clause(clause, ConnectionManager)

    return test


for _clause in MANAGER_CONTRACT:
    setattr(ContractTests, f"test_{_clause.__name__}", _test_of(_clause))


class KitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake)
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(limit=1))

    def ask(self, timeout: float | None = None) -> Any:
        return self.pool.connect("us", self.backend, timeout=timeout)

    def test_success_result_of_a_request_is_its_lease(self) -> None:
        lease = self.successResultOf(self.ask())
        self.assertEqual(lease.ident, "us")
        lease.release()

    def test_result_of_leaves_a_request_that_waits_as_it_was(self) -> None:
        first = result_of(self.ask())
        waiting = self.ask()
        self.assertRaises(NotFired, result_of, waiting)
        self.assertNoResult(waiting)
        first.release()
        self.successResultOf(waiting).release()

    def test_result_of_raises_what_a_request_failed_with(self) -> None:
        self.fake.refuse()
        self.assertRaises(ConnectFailed, result_of, self.ask())

    def test_failure_result_of_a_request_is_its_error(self) -> None:
        self.fake.never_answer()
        asked = self.ask(timeout=1.0)
        self.clock.advance(1.0)
        self.failureResultOf(asked, LeaseTimeout)

    def test_a_cancelled_request_fails_as_twisted_says(self) -> None:
        self.fake.never_answer()
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)

    def test_an_hour_passes_at_once(self) -> None:
        self.successResultOf(self.ask()).release()
        self.clock.pump([60.0] * 60)
        self.assertEqual(self.pool.status(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
