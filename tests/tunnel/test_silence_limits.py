"""The kernel is told how long a peer may be silent."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from twisted.internet.address import IPv4Address

from kolus.config import GroupSettings
from kolus.tunnel import End, ListenerSettings, set_silence_limits

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has these options"
)


class Transport:
    """As much of a transport as an end looks at."""

    def __init__(self, its: socket.socket) -> None:
        self.socket = its

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as its:
        yield its


def limits_of(its: socket.socket) -> list[int]:
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT)
    found = [its.getsockopt(socket.IPPROTO_TCP, each) for each in options]
    return [its.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *found]


def test_who_is_accepted_inherits_them(listening: socket.socket) -> None:
    set_silence_limits(listening, ListenerSettings(tcp_keepalive=30.0, tcp_user_timeout=90.0))
    with socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert limits_of(accepted) == [1, 30, 10, 90000]


def test_a_connection_to_a_backend_gets_those_of_its_group(listening: socket.socket) -> None:
    settings = GroupSettings(tcp_keepalive=12.0, tcp_user_timeout=40.0)
    with socket.create_connection(listening.getsockname()) as connected:
        End(settings).makeConnection(Transport(connected))  # type: ignore[arg-type]
        assert limits_of(connected) == [1, 12, 4, 40000]


def test_none_leaves_the_socket_as_it_is(listening: socket.socket) -> None:
    before = limits_of(listening)
    set_silence_limits(listening, ListenerSettings(tcp_keepalive=None, tcp_user_timeout=None))
    assert limits_of(listening) == before


def test_a_unix_socket_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as its:
        set_silence_limits(its, ListenerSettings())
