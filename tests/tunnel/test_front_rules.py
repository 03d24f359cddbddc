"""What a front lets its clients do: PROXY headers, networks, limits, TLS handshakes and idents."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kolus import Pool
from kolus.errors import LeaseTimeout
from kolus.lease import FINISHED
from kolus.proxy_protocol import ProxyHeader, TLVType, decode, encode
from kolus.tls import ListenerCertificates, ListenerTLS
from kolus.tunnel import ListenerSettings
from tests.rigs.wire import WireSocket, WireTransport
from tests.tls.conftest import Files
from tests.tls.shaking import Client
from tests.tunnel.test_front import Stage

BALANCER, STRANGER = "10.0.0.1", "192.168.0.9"
HEADER = ProxyHeader(("172.16.0.7", 5555), ("172.16.0.1", 80), ((0xEE, b"x"),))
V1, V2 = encode(HEADER, "v1"), encode(HEADER, "v2")


class Ruled(Stage):
    """A front with settings."""

    def __init__(self, *, front: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(settings=ListenerSettings(**settings), **(front or {}))
        self.transports: list[WireTransport] = []

    def come(self, host: str | None = STRANGER) -> WireSocket | None:
        """A client connects; C{None}: it is closed at once."""
        address = UNIXAddress(b"") if host is None else IPv4Address("TCP", host, 5000)
        protocol = self.front.buildProtocol(address)
        if protocol is None:
            return None
        transport = WireTransport.__new__(WireTransport)
        transport.getPeer = lambda: address  # type: ignore[method-assign, return-value]
        transport.getHost = lambda: IPv4Address("TCP", "10.9.9.9", 80)  # type: ignore[method-assign]
        transport.__init__(self.reactor, protocol)  # type: ignore[misc]
        self.transports.append(transport)
        self.settle()
        return transport.wire

    def comes(self, host: str | None = STRANGER) -> WireSocket:
        socket = self.come(host)
        assert socket is not None
        return socket


# PROXY headers


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_header_may_come_in_pieces_and_what_follows_is_the_clients(
    header: bytes, piece: int
) -> None:
    stage = Ruled(accept_proxy_from=(BALANCER,))
    client = stage.comes(BALANCER)
    told = header + b"question"
    for at in range(0, len(told), piece):
        assert not stage.asked or at >= len(header)
        client.arrive(told[at : at + piece])
        stage.settle()
    backend = stage.grant()
    stage.settle()
    assert backend.sent == b"question"
    backend.arrive(b"answer")
    stage.settle()
    assert client.sent == b"answer"


@pytest.mark.parametrize("together", [True, False])
def test_a_client_that_half_closes_behind_a_header_gets_its_answer(together: bool) -> None:
    stage = Ruled(accept_proxy_from=(BALANCER,))
    client = stage.comes(BALANCER)
    client.arrive(V1 + b"question")
    if not together:
        stage.settle()
    client.finish()
    stage.settle()
    backend = stage.grant()
    stage.settle()
    assert backend.sent == b"question"
    assert backend.ended
    backend.arrive(b"answer")
    backend.finish()
    stage.settle()
    assert client.sent == b"answer"
    assert client.closed == "closed"


def test_a_header_is_demanded_of_balancers_and_believed_of_nobody_else() -> None:
    stage = Ruled(accept_proxy_from=(BALANCER,))
    with capturedLogs() as logged:
        demanded = stage.comes(BALANCER)
        demanded.arrive(b"GET / HTTP/1.1\r\n")
        stage.settle()
    assert demanded.closed == "reset"
    assert stage.front.refusals.counts == {"proxy_header": 1}
    assert (
        "10.0.0.1:5000 has sent a wrong PROXY header: not a PROXY header: b'GET / "
        in logged[0]["what"]
    )
    stranger = stage.comes(STRANGER)
    stranger.arrive(V1)
    stage.settle()
    backend = stage.grant()
    stage.settle()
    assert backend.sent == V1


def test_a_header_that_does_not_come_in_time_ends_the_connection() -> None:
    stage = Ruled(accept_proxy_from=(BALANCER,), proxy_header_timeout=3.0)
    slow = stage.comes(BALANCER)
    slow.arrive(V1[:5])
    stage.pass_time(2.9)
    assert slow.closed is None
    stage.pass_time(0.2)
    assert slow.closed == "reset"
    assert stage.asked == []
    assert stage.front.refusals.counts == {"proxy_header_timeout": 1}
    assert stage.front.limits.clients == 0


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_who_leaves_before_the_header_is_complete_takes_no_lease(end: str) -> None:
    stage = Ruled(accept_proxy_from=(BALANCER,))
    client = stage.comes(BALANCER)
    client.arrive(V2[:20])
    getattr(client, end)()
    stage.settle()
    assert client.closed
    assert stage.asked == []
    assert stage.front.refusals.counts == {"proxy_header": 1}
    assert stage.front.limits.clients == 0
    assert not [each for each in stage.reactor.getDelayedCalls() if each.getTime() > 2]


def test_a_header_counts_for_networks_limits_and_idents() -> None:
    stage = Ruled(
        accept_proxy_from=(BALANCER,),
        deny=("172.16.0.7",),
        max_clients_per_address=1,
        ident="address",
    )
    denied = stage.comes(BALANCER)
    denied.arrive(V1)
    stage.settle()
    assert denied.closed == "reset"
    for _ in range(2):
        stage.comes(BALANCER).arrive(encode(ProxyHeader(("172.16.0.8", 1), ("::1", 2)), "v2"))
        stage.settle()
    assert stage.front.refusals.counts == {"deny": 1, "max_clients_per_address": 1}
    assert stage.idents == ["::ffff:ac10:8"]


def test_a_connection_of_the_balancer_itself_is_served_as_its_own() -> None:
    stage = Ruled(accept_proxy_from=(BALANCER,), ident="address")
    stage.comes(BALANCER).arrive(encode(ProxyHeader(), "v2"))
    stage.settle()
    assert stage.idents == [BALANCER]


def test_a_listener_behind_balancers_demands_a_header_of_everybody() -> None:
    stage = Ruled()
    protocol = stage.front.behind_balancers().buildProtocol(IPv4Address("TCP", STRANGER, 1))
    assert IHalfCloseableProtocol.providedBy(protocol)
    transport = WireTransport(stage.reactor, protocol)
    transport.wire.arrive(b"question")
    stage.settle()
    assert transport.wire.closed == "reset"


# PROXY headers for backends


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_backend_is_told_the_client_first(version: str) -> None:
    stage = Ruled(front={"send_proxy": version})
    client = stage.comes("172.16.0.9")
    client.arrive(b"question")
    stage.settle()
    backend = stage.grant()
    stage.settle()
    decoded = decode(backend.sent)
    assert decoded is not None
    header, size = decoded
    assert (header.source, header.destination) == (("172.16.0.9", 5000), ("10.9.9.9", 80))
    assert backend.sent[size:] == b"question"


def test_a_backend_is_told_what_the_clients_own_header_said() -> None:
    stage = Ruled(front={"send_proxy": "v2"}, accept_proxy_from=(BALANCER,))
    stage.comes(BALANCER).arrive(V2)
    stage.settle()
    backend = stage.grant()
    stage.settle()
    assert backend.sent == V2


def test_of_a_client_of_a_unix_socket_a_backend_is_told_nothing() -> None:
    stage = Ruled(front={"send_proxy": "v1"})
    stage.comes(None)
    backend = stage.grant()
    stage.settle()
    assert backend.sent == b"PROXY UNKNOWN\r\n"


# Who is welcome


def test_who_is_not_welcome_is_closed_and_logged_once_a_second() -> None:
    stage = Ruled(allow=("10.0.0.0/8",))
    with capturedLogs() as logged:
        for _ in range(5):
            assert stage.come("11.0.0.1") is None
        stage.pass_time(1.0)
    assert stage.come("10.0.0.7") is not None
    assert stage.front.refusals.counts == {"allow": 5}
    lines = [each for each in logged if "others" in each]
    assert [each["others"] for each in lines] == [0, 3]
    assert lines[0]["what"] == "11.0.0.1 is in no network of allow"


def test_a_client_that_leaves_makes_room_for_another_of_its_address() -> None:
    stage = Ruled(max_clients_per_address=1, max_clients=2)
    client = stage.comes()
    assert stage.come() is None
    assert stage.front.limits.clients == 1
    client.reset()
    stage.settle()
    assert stage.come() is not None
    stage.comes("10.0.0.7")
    assert stage.front.limits.accept_in() == float("inf")


@pytest.mark.parametrize(("kind", "ident"), [("fixed", "clients"), ("address", STRANGER)])
def test_the_ident_is_fixed_or_the_clients_address(kind: str, ident: str) -> None:
    stage = Ruled(ident=kind)
    stage.comes()
    assert stage.idents == [ident]


# TLS


class Secured(Ruled):
    """A front with TLS for two names."""

    def __init__(self, files: Files, **settings: Any) -> None:
        tls = ListenerTLS(
            certificates=(files.write("a.pem", "a.example"), files.write("b.pem", "b.example"))
        )
        front = {"certificates": ListenerCertificates(tls)} | settings.pop("front", {})
        super().__init__(front=front, tls=tls, **settings)
        self.ca = files.ca

    def shake(self, socket: WireSocket, client: Client, last: bool = True) -> None:
        """Exchange the messages of a handshake."""
        for _ in range(4):
            done = False
            with suppress(ssl.SSLWantReadError):
                client.tls.do_handshake()
                done = True
            if done and not last:
                return
            socket.arrive(client._from.read())
            self.settle()
            client._to.write(socket.sent)
            socket.sent = b""

    def read(self, socket: WireSocket, client: Client) -> bytes:
        self.settle()
        client._to.write(socket.sent)
        socket.sent = b""
        return client.tls.read()

    def write(self, socket: WireSocket, client: Client, data: bytes) -> None:
        client.tls.write(data)
        socket.arrive(client._from.read())
        self.settle()


def test_a_tls_client_asks_for_a_lease_after_its_handshake(files: Files) -> None:
    stage = Secured(files, ident="server_name")
    socket, client = stage.comes(), Client(files.ca, "b.example")
    stage.shake(socket, client, last=False)
    assert stage.asked == []
    stage.shake(socket, client)
    assert stage.idents == ["b.example"]
    backend = stage.grant()
    stage.write(socket, client, b"question")
    assert backend.sent == b"question"
    backend.arrive(b"answer")
    assert stage.read(socket, client) == b"answer"


def test_a_silent_tls_client_is_closed_and_takes_no_lease(files: Files) -> None:
    stage = Secured(files, handshake_timeout=4.0)
    silent = stage.comes()
    stage.pass_time(3.9)
    assert silent.closed is None
    stage.pass_time(0.2)
    assert silent.closed == "reset"
    assert stage.asked == []
    assert stage.front.refusals.counts == {"handshake_timeout": 1}
    assert stage.front.limits.clients == 0


def test_a_client_that_speaks_no_tls_is_counted(files: Files) -> None:
    stage = Secured(files)
    with capturedLogs() as logged:
        wrong = stage.comes()
        wrong.arrive(b"GET / HTTP/1.1\r\n\r\n")
        stage.settle()
        wrong.reset()
        stage.settle()
    assert wrong.closed
    (said,) = [each["what"] for each in logged if "what" in each]
    assert said.endswith(" has left in its TLS handshake: http request")
    assert stage.front.refusals.counts == {"handshake": 1}
    assert stage.front.limits.clients == 0


def test_a_header_comes_before_tls_and_the_backend_is_told_the_server_name(
    files: Files,
) -> None:
    stage = Secured(files, accept_proxy_from=(BALANCER,), front={"send_proxy": "v2"})
    socket, client = stage.comes(BALANCER), Client(files.ca, "a.example")
    socket.arrive(V2)
    stage.shake(socket, client)
    backend = stage.grant()
    stage.settle()
    decoded = decode(backend.sent)
    assert decoded is not None
    assert decoded[0].source == HEADER.source
    assert dict(decoded[0].tlvs)[TLVType.AUTHORITY] == b"a.example"
    assert dict(decoded[0].tlvs)[0xEE] == b"x"


def test_who_is_on_the_way_when_a_front_drains_is_served(files: Files) -> None:
    stage = Secured(files, accept_proxy_from=(BALANCER,))
    drained: list[int] = []
    sockets = [stage.comes(BALANCER), stage.comes()]  # before its header; before its handshake
    stage.front.drain(10.0).addCallback(drained.append)
    stage.settle()
    sockets[0].arrive(V2)
    for place, socket in enumerate(sockets):
        client = Client(files.ca, "a.example")
        stage.shake(socket, client)
        backend = stage.grant(place)
        stage.write(socket, client, b"question")
        assert backend.sent == b"question"
        assert drained == []
        backend.finish()
        socket.reset()
        stage.settle()
    assert drained == [0]
    assert stage.front.served == 2
    assert not stage.front.refusals.counts


def test_who_is_on_the_way_and_comes_to_nothing_does_not_keep_a_front_from_ending(
    files: Files,
) -> None:
    stage = Secured(files, accept_proxy_from=(BALANCER,), deny=("172.16.0.0/12",))
    drained: list[int] = []
    wrong, denied, silent, gone = *[stage.comes(BALANCER) for _ in range(3)], stage.comes()
    stage.front.drain(100.0).addCallback(drained.append)
    wrong.arrive(b"GET / HTTP/1.1\r\n")
    denied.arrive(V2)
    gone.reset()
    stage.settle()
    assert drained == []
    stage.pass_time(5.0)
    assert silent.closed
    assert drained == [0]
    assert stage.front.refusals.counts == {
        "proxy_header": 1,
        "deny": 1,
        "handshake": 1,
        "proxy_header_timeout": 1,
    }


@pytest.mark.parametrize("by_hand", [True, False])
def test_who_is_on_the_way_when_the_grace_is_over_is_aborted(files: Files, by_hand: bool) -> None:
    stage = Secured(files, accept_proxy_from=(BALANCER,))
    before_header, before_handshake = stage.comes(BALANCER), stage.comes()
    drained: list[int] = []
    stage.front.drain(3.0).addCallback(drained.append)
    stage.pass_time(2.9)
    assert drained == []
    if by_hand:
        stage.front.abort()
        stage.settle()
    else:
        stage.pass_time(0.2)
    assert before_header.closed
    assert before_handshake.closed
    assert drained == [0]
    assert not stage.front.refusals.counts
    assert stage.reactor.getDelayedCalls() == []


# Time


def joined(stage: Ruled) -> tuple[WireSocket, WireSocket]:
    """A client and the backend that it is joined to."""
    client = stage.comes()
    backend = stage.grant()
    stage.settle()
    return client, backend


def wait(stage: Ruled, seconds: float) -> None:
    stage.settle()
    for _ in range(round(seconds * 10)):
        stage.reactor.advance(0.1)
    stage.settle()


@pytest.mark.parametrize("end", ["client", "backend"])
def test_a_half_closed_session_in_which_nothing_comes_is_ended(end: str) -> None:
    stage = Ruled()  # with the default of ten seconds
    client, backend = joined(stage)
    (client if end == "client" else backend).finish()
    wait(stage, 9.9)
    assert stage.outcomes == []
    wait(stage, 0.6)
    assert stage.outcomes == [FINISHED]
    assert client.closed == "closed"
    assert stage.front.times_out == {"half_closed_timeout": 1}


def test_an_idle_session_is_ended_and_its_client_gets_an_end_and_no_reset() -> None:
    stage = Ruled(client_timeout=20.0)
    client, backend = joined(stage)
    wait(stage, 19.0)
    backend.arrive(b"news")
    wait(stage, 19.0)
    assert client.closed is None
    wait(stage, 3.1)
    assert (client.sent, client.closed, backend.closed) == (b"news", "closed", "closed")
    assert stage.front.times_out == {"client_timeout": 1}
    assert stage.front.limits.clients == 0


def test_a_client_that_takes_nothing_is_reset_when_the_session_is_old() -> None:
    stage = Ruled(session_limit=5.0)
    client, backend = joined(stage)
    client.room = 10
    backend.arrive(b"x" * 1000)
    wait(stage, 5.6)
    assert client.closed == "reset"
    assert stage.front.times_out == {"session_limit": 1}


def test_a_backend_that_owes_an_answer_loses_its_session() -> None:
    stage = Ruled(backend_timeout=5.0)
    client, _ = joined(stage)
    client.arrive(b"question")
    wait(stage, 5.6)
    assert client.closed == "closed"
    assert stage.front.times_out == {"backend_timeout": 1}


def test_a_front_that_has_drained_leaves_no_timer() -> None:
    stage = Ruled(client_timeout=20.0)
    client, backend = joined(stage)
    client.finish()
    backend.finish()
    stage.settle()
    assert stage.outcomes == [FINISHED]
    stage.front.drain(1.0)
    assert stage.reactor.getDelayedCalls() == []


def test_a_client_that_waits_too_long_is_counted() -> None:
    stage = Ruled()
    client = stage.comes()
    (status,) = Pool(Clock(), Protocol).status(["tcp:10.0.0.7:1"])
    stage.asked[0].errback(LeaseTimeout(status, 5.0, None))
    stage.settle()
    assert client.closed
    assert stage.front.refusals.counts == {"queue_timeout": 1}


def test_other_settings_close_no_client_and_apply_to_the_next() -> None:
    stage = Ruled()
    first = stage.comes()
    stage.front.change(ListenerSettings(deny=(STRANGER,), accept_proxy_from=(BALANCER,)))
    stage.settle()
    assert not first.ended
    assert len(stage.front.clients) == 1
    assert not stage.front.is_empty
    assert stage.come() is None
    behind = stage.comes(BALANCER)
    behind.arrive(V1)
    stage.settle()
    assert len(stage.front.clients) == 2
