"""A group of the configuration at work."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs

from kolus import Backend
from kolus.config import GroupSettings
from kolus.daemon.served_group import ServedGroup
from kolus.sources import StaticSource


def test_a_backend_that_nobody_verifies_is_warned_of_once() -> None:
    settings = GroupSettings(backends=(Backend("ssl:10.0.0.7:7444"),))
    reactor = MemoryReactorClock()
    served = ServedGroup(reactor, "shop", settings, StaticSource(settings.backends))
    with capturedLogs() as logged:
        served.start()
        for _ in range(3):
            served.connect("clients", 5.0).addErrback(lambda failure: None)
    warnings = [each for each in logged if "what" in each]
    assert [str(each["backend"]) for each in warnings] == ["ssl:10.0.0.7:7444"]
    assert "tls:10.0.0.7:7444 does both" in warnings[0]["what"]
    served.pool.close(0)


def test_a_client_that_stays_for_hours_is_not_a_leak() -> None:
    settings = GroupSettings(backends=(Backend("tcp:10.0.0.7:7444"),))
    served = ServedGroup(MemoryReactorClock(), "shop", settings, StaticSource(settings.backends))
    assert served.pool.policy.leak_after is None
