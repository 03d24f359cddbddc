"""Ports that accept no more clients than there is room for."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kolus.tunnel import ListenerSettings
from kolus.tunnel.client_limits import ClientLimits
from kolus.tunnel.gate import Gate


class FakePort:
    reads = True

    def startReading(self) -> None:
        self.reads = True

    def stopReading(self) -> None:
        self.reads = False


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.limits = ClientLimits(self.clock, ListenerSettings(**settings))
        self.gate = Gate(self.clock, self.limits)
        self.ports = [FakePort(), FakePort()]
        for port in self.ports:
            self.gate.add(port)

    @property
    def is_open(self) -> bool:
        (found,) = {port.reads for port in self.ports}
        return found


def test_all_ports_stop_at_the_most_clients_and_go_on_when_one_has_left() -> None:
    rig = Rig(max_clients=2)
    with capturedLogs() as logged:
        rig.limits.arrived()
        assert rig.is_open
        rig.limits.arrived()
        assert not rig.is_open
    assert [each["setting"] for each in logged] == ["max_clients"]
    late = FakePort()
    rig.gate.add(late)
    assert not late.reads
    rig.limits.left()
    assert rig.is_open


def test_ports_stop_at_the_most_new_clients_a_second_and_go_on_by_themselves() -> None:
    rig = Rig(max_new_clients=10)
    for _ in range(10):
        assert rig.is_open
        rig.limits.arrived()
    assert not rig.is_open
    rig.clock.advance(0.11)
    assert rig.is_open
    rig.limits.arrived()
    assert not rig.is_open


def test_a_closed_gate_is_logged_once_a_second_at_most() -> None:
    rig = Rig(max_clients=1)
    with capturedLogs() as logged:
        for _ in range(20):
            rig.limits.arrived()
            rig.limits.left()
            rig.clock.advance(0.1)
    assert len(logged) == 2


def test_a_gate_that_is_closed_leaves_no_timer() -> None:
    rig = Rig(max_new_clients=1)
    rig.limits.arrived()
    rig.gate.close()
    rig.limits.left()
    assert rig.clock.getDelayedCalls() == []
