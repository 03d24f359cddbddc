"""C{PoolService}: an application closes its pool when it stops."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kolus.backend import Backend
from kolus.errors import Closed
from kolus.pool import Pool
from kolus.service import PoolService
from kolus.testing import FakeBackend, NotFired, result_of


class Application:
    """An application with a pool, on a clock; it runs.

    @ivar parent: the application.
    """

    def __init__(self, **options: float) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="the backend")
        self.pool: Pool[Protocol] = Pool(self.clock, Protocol)
        self.service = PoolService(self.pool, **options)
        self.parent: Any = MultiService()  # type: ignore[no-untyped-call]
        self.service.setServiceParent(self.parent)
        self.parent.startService()

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


def test_a_pool_service_is_a_service_and_starting_it_connects_nowhere() -> None:
    app = Application()
    assert verifyObject(IService, app.service)
    assert app.service.running
    assert app.clock.getDelayedCalls() == []
    assert app.pool.status() == []


def test_an_application_that_stops_waits_for_the_leases_of_its_pool() -> None:
    app = Application()
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = app.parent.stopService()
    assert not app.service.running
    with pytest.raises(Closed):
        result_of(app.pool.connect("us", app.backend))
    app.clock.advance(9.9)
    with pytest.raises(NotFired):
        result_of(stopped)
    lease.release()
    app.turn()
    result_of(stopped)
    assert app.fake.connections == []


def test_an_application_that_stops_aborts_what_is_leased_for_too_long() -> None:
    app = Application(timeout=2.0)
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = app.parent.stopService()
    app.clock.advance(1.9)
    assert len(app.fake.connections) == 1
    app.clock.advance(0.2)
    app.turn()
    result_of(stopped)
    assert app.fake.connections == []
    lease.finished()


def test_a_pool_service_may_give_no_time_at_all() -> None:
    app = Application(timeout=0)
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = app.parent.stopService()
    app.turn()
    result_of(stopped)
    lease.finished()


def test_stopping_a_pool_service_twice_is_harmless() -> None:
    app = Application()
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = [app.service.stopService(), app.service.stopService()]
    lease.release()
    app.turn()
    assert [result_of(each) for each in stopped] == [None, None]
    assert result_of(app.service.stopService()) is None


def test_a_pool_that_was_never_used_is_closed_at_once() -> None:
    app = Application()
    result_of(app.parent.stopService())
    with pytest.raises(Closed):
        result_of(app.pool.connect("us", app.backend))


@pytest.mark.parametrize("timeout", [-1, float("nan"), None, "10", True])
def test_a_pool_service_refuses_what_is_no_length_of_time(timeout: Any) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    with pytest.raises(ValueError, match="timeout must"):
        PoolService(pool, timeout)
