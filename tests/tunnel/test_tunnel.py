"""The tunnel: bytes both ways, back-pressure, and how connections end."""

from __future__ import annotations

import pytest
from twisted.internet.interfaces import INegotiated
from zope.interface import directlyProvides

from kolus.tunnel import End, Tunnel
from tests.rigs.wire import WireReactor, WireSocket, connect

MIB = 1024 * 1024


class Joined:
    """A session of two ends, and whether it has ended."""

    def __init__(self, client: End, backend: End) -> None:
        self.ended: list[object] = []
        self.session = Tunnel(client, backend, self.ended.append, lambda session: None)
        self.session.begin()

    def traffic(self) -> tuple[int, int] | None:
        """The bytes from the client and from the backend; C{None}: it has not ended."""
        if not self.ended:
            return None
        assert self.ended == [self.session]
        return self.session.sent, self.session.received


class Pair:
    """Two joined ends, and the sockets of their peers."""

    def __init__(self) -> None:
        self.reactor = WireReactor()
        self.client_end, self.backend_end = End(), End()
        self.client = connect(self.reactor, self.client_end)
        self.backend = connect(self.reactor, self.backend_end)
        self.joined = Joined(self.client_end, self.backend_end)

    def settle(self) -> None:
        self.reactor.settle()

    def sides(self, source: str) -> tuple[WireSocket, WireSocket]:
        """The socket that is named, and the other one."""
        pair = (self.client, self.backend)
        return pair if source == "client" else (pair[1], pair[0])


@pytest.fixture
def pair() -> Pair:
    return Pair()


either = pytest.mark.parametrize("side", ["client", "backend"])


def test_bytes_flow_both_ways(pair: Pair) -> None:
    pair.client.arrive(b"question")
    pair.settle()
    pair.backend.arrive(b"answer")
    pair.settle()
    assert (pair.backend.sent, pair.client.sent) == (b"question", b"answer")


def test_what_came_before_the_joining_is_delivered_first() -> None:
    reactor = WireReactor()
    client_end, backend_end = End(), End()
    client, backend = connect(reactor, client_end), connect(reactor, backend_end)
    client.arrive(b"early ")
    reactor.settle()
    Joined(client_end, backend_end)
    client.arrive(b"late")
    reactor.settle()
    assert backend.sent == b"early late"


@either
def test_half_close_is_passed_on(pair: Pair, side: str) -> None:
    source, sink = pair.sides(side)
    source.arrive(b"all there is")
    source.finish()
    pair.settle()
    assert sink.sent == b"all there is"
    assert sink.ended
    assert not source.ended
    assert sink.closed is None
    sink.arrive(b"an answer")
    pair.settle()
    assert source.sent == b"an answer"


@either
def test_a_tunnel_ends_when_both_directions_have_ended(pair: Pair, side: str) -> None:
    source, sink = pair.sides(side)
    source.arrive(b"12345")
    source.finish()
    pair.settle()
    assert pair.joined.traffic() is None
    sink.finish()
    pair.settle()
    sent, received = (5, 0) if side == "client" else (0, 5)
    assert pair.joined.traffic() == (sent, received)


def test_a_half_closed_side_may_take_its_time_to_hear_the_rest(pair: Pair) -> None:
    pair.client.finish()
    pair.client.room = 0
    pair.backend.arrive(b"x" * MIB)
    pair.backend.finish()
    pair.settle()
    assert pair.joined.traffic() is None
    pair.client.room = 2 * MIB
    pair.settle()
    assert pair.joined.traffic() == (0, MIB)
    assert len(pair.client.sent) == MIB


@either
def test_a_slow_sink_stops_the_reading_of_its_source(pair: Pair, side: str) -> None:
    source, sink = pair.sides(side)
    sink.room = 0
    source.arrive(b"x" * MIB)
    pair.settle()
    assert source.unread >= MIB - 3 * 65536
    sink.room = MIB
    pair.settle()
    assert (source.unread, len(sink.sent)) == (0, MIB)


@either
def test_the_end_of_a_direction_waits_for_what_is_still_to_be_sent(pair: Pair, side: str) -> None:
    source, sink = pair.sides(side)
    sink.room = 10
    source.arrive(b"x" * MIB)
    source.finish()
    pair.settle()
    assert not sink.ended
    sink.room = MIB
    pair.settle()
    assert len(sink.sent) == MIB
    assert sink.ended


@either
def test_a_reset_is_passed_on_as_a_reset(pair: Pair, side: str) -> None:
    source, sink = pair.sides(side)
    source.arrive(b"never mind")
    source.reset()
    pair.settle()
    assert sink.closed == "reset"
    assert pair.joined.traffic() is not None


@either
def test_a_reset_is_passed_on_to_a_side_that_is_not_read(pair: Pair, side: str) -> None:
    source, sink = pair.sides(side)
    sink.room = 0
    source.arrive(b"x" * MIB)
    pair.settle()
    sink.reset()
    pair.settle()
    assert source.closed == "reset"
    assert pair.joined.traffic() is not None


@either
def test_what_was_sent_before_an_orderly_end_survives_a_later_reset(pair: Pair, side: str) -> None:
    source, sink = pair.sides(side)
    sink.room = 0
    source.arrive(b"the answer")
    source.finish()
    pair.settle()
    source.reset()
    sink.arrive(b"more that the source does not want")
    pair.settle()
    assert source.closed is not None
    sink.room = 100
    pair.settle()
    assert sink.sent == b"the answer"
    assert sink.closed == "closed"
    assert pair.joined.traffic() is not None


def test_aborting_a_tunnel_aborts_both_connections(pair: Pair) -> None:
    pair.client.room = 0
    pair.backend.arrive(b"x" * MIB)
    pair.settle()
    pair.joined.session.abort()
    pair.settle()
    traffic = pair.joined.traffic()  # what was moved counts
    assert traffic is not None
    assert traffic[0] == 0
    assert 0 < traffic[1] < MIB
    assert (pair.client.closed, pair.backend.closed) == ("reset", "reset")


def test_without_a_half_close_an_end_is_closed_when_all_is_sent() -> None:
    reactor = WireReactor()
    client_end, backend_end = End(), End()
    client, backend = connect(reactor, client_end), connect(reactor, backend_end)
    directlyProvides(backend_end.transport, INegotiated)  # as a TLS transport does
    backend_end.connectionMade()
    joined = Joined(client_end, backend_end)
    backend.room = 0
    client.arrive(b"x" * MIB)
    client.finish()
    reactor.settle()
    assert backend.closed is None
    backend.room = 2 * MIB
    reactor.settle()
    assert len(backend.sent) == MIB
    assert (backend.closed, client.closed) == ("closed", "closed")
    assert joined.traffic() == (MIB, 0)


def test_a_backend_that_had_ended_already_is_told_of_as_well() -> None:
    reactor = WireReactor()
    client_end, backend_end = End(), End()
    client, backend = connect(reactor, client_end), connect(reactor, backend_end)
    backend.arrive(b"goodbye")
    backend.finish()
    reactor.settle()
    joined = Joined(client_end, backend_end)
    client.finish()
    reactor.settle()
    assert client.sent == b"goodbye"
    assert joined.traffic() == (0, 7)


def test_a_client_that_is_gone_already_takes_the_backend_with_it() -> None:
    reactor = WireReactor()
    client_end, backend_end = End(), End()
    client, backend = connect(reactor, client_end), connect(reactor, backend_end)
    client.reset()
    reactor.settle()
    joined = Joined(client_end, backend_end)
    reactor.settle()
    assert backend.closed == "reset"
    assert joined.traffic() == (0, 0)
