"""Ports that accept no more clients than there is room for."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kolus.tunnel import ListenerSettings, set_silence_limits
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


def test_it_is_said_once_a_second_at_most() -> None:
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


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has these options")
def test_who_is_accepted_inherits_the_limits_of_silence() -> None:
    settings = ListenerSettings(tcp_keepalive=30.0, tcp_user_timeout=90.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        set_silence_limits(listening, settings)
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                found = [
                    accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                    accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                ]
    assert found == [1, 30, 10, 90000]


def test_a_unix_socket_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        set_silence_limits(listening, ListenerSettings())
