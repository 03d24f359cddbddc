"""Backends from real name servers: one of C{twisted.names} in this process, and a dnsmasq."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, formatEvent
from twisted.names import client, dns
from twisted.names.error import DNSNameError

from kolus.backend import Backend
from kolus.backoff import Backoff
from kolus.sources import DNSSource
from tests.conftest import LoggedFailures
from tests.net import name_servers
from tests.net.asking import turn, until
from tests.net.name_servers import (
    NAME,
    SERVICE,
    NameServer,
    OutOfDescriptors,
    Truncating,
)
from tests.net.servers import Server

MANY = [f"10.0.{number}.7" for number in range(100)]
"""More addresses than fit a datagram of DNS."""


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[NameServer]:
    server = NameServer(reactor)
    server.listen()
    yield server
    await server.stop()


@pytest_twisted.async_yield_fixture
async def datagram_server() -> AsyncIterator[NameServer]:
    """One that does not accept connections."""
    server = NameServer(reactor)
    server.listen(tcp=False)
    yield server
    await server.stop()


class Asked:
    """A started source and what it told."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.told: list[Sequence[Backend]] = []
        options = {"least_ttl": 0.02, "backoff": Backoff(first=0.02, most=0.05), **options}
        self.source = DNSSource(options.pop("reactor", reactor), *arguments, **options)
        self.source.start(self.told.append)

    async def tells(self, *endpoints: str) -> None:
        """Wait until these, and no others, are what was told last."""
        expected = [Backend(each) for each in endpoints]
        await until(reactor, lambda: self.told and list(self.told[-1]) == expected)


Ask = Callable[..., Asked]


@pytest_twisted.async_yield_fixture
async def ask() -> AsyncIterator[Ask]:
    """Makes and starts a source."""
    started: list[Asked] = []

    def begin(*arguments: Any, **options: Any) -> Asked:
        started.append(Asked(*arguments, **options))
        return started[-1]

    yield begin
    for each in started:
        each.source.stop()
    await turn(reactor)  # then the sockets are closed


async def in_reactor() -> set[Any]:
    """What the reactor has to do once it has gone round."""
    await turn(reactor)
    return {*reactor.getDelayedCalls(), *reactor.getReaders(), *reactor.getWriters()}


# What is told


@pytest_twisted.ensureDeferred
async def test_addresses_of_both_kinds_are_told_and_so_are_changes(
    ask: Ask, server: NameServer
) -> None:
    server.zone.addresses("10.0.0.7", "::7")
    asked = ask(NAME, 6379, servers=[server.address])
    await asked.tells("tcp:10.0.0.7:6379", r"tcp:\:\:7:6379")
    server.zone.addresses("10.0.0.8")
    await asked.tells("tcp:10.0.0.8:6379")


@pytest_twisted.ensureDeferred
async def test_services_of_the_lowest_priority_are_told_with_their_weights(
    ask: Ask, server: NameServer
) -> None:
    server.zone.services(
        (10, 60, 6379, "One.test"), (10, 0, 6380, "two.test"), (20, 1, 1, "x.test")
    )
    asked = ask(SERVICE, kind="srv", servers=[server.address])
    await asked.tells("tcp:one.test:6379", "tcp:two.test:6380")
    assert [each.weight for each in asked.told[0]] == [60, 0.1]


@pytest_twisted.ensureDeferred
async def test_a_service_without_a_port_is_left_out(
    ask: Ask, server: NameServer, log_events: list[LogEvent]
) -> None:
    server.zone.services((10, 60, 0, "zero.test"), (10, 60, 6379, "one.test"))
    asked = ask(SERVICE, kind="srv", servers=[server.address])
    await asked.tells("tcp:one.test:6379")
    assert f"of {SERVICE} is left out: 10 60 0 zero.test: " in "".join(map(formatEvent, log_events))


@pytest_twisted.ensureDeferred
async def test_a_target_that_is_the_root_says_that_there_is_no_service(
    ask: Ask, server: NameServer, log_events: list[LogEvent]
) -> None:
    server.zone.services((0, 0, 0, ""))
    asked = ask(SERVICE, kind="srv", servers=[server.address])
    await until(reactor, lambda: "no such records" in "".join(map(formatEvent, log_events)))
    assert asked.told == []


@pytest_twisted.ensureDeferred
async def test_the_answer_behind_an_alias_is_told(ask: Ask, server: NameServer) -> None:
    server.zone.addresses("10.0.0.7")
    server.zone.records[b"alias.test"] = [dns.Record_CNAME(NAME.encode(), 0)]
    asked = ask("alias.test", 6379, servers=[server.address])
    await asked.tells("tcp:10.0.0.7:6379")


@pytest_twisted.ensureDeferred
async def test_an_answer_too_long_for_a_datagram_is_told_whole(
    ask: Ask, server: NameServer
) -> None:
    server.zone.addresses(*MANY)
    asked = ask(NAME, 6379, servers=[server.address])
    await asked.tells(*sorted(f"tcp:{each}:6379" for each in MANY))


@pytest_twisted.ensureDeferred
async def test_the_file_of_hosts_is_read_where_no_servers_are_given(ask: Ask) -> None:
    before = await in_reactor()
    asked = ask("localhost", 6379, kind="ipv4")
    await asked.tells("tcp:127.0.0.1:6379")
    asked.source.stop()
    assert await in_reactor() == before


@pytest.mark.parametrize("listen", ["tcp:0:interface=127.0.0.1", r"tcp:0:interface=\:\:1"])
@pytest_twisted.ensureDeferred
async def test_what_is_told_can_be_connected_to(ask: Ask, server: NameServer, listen: str) -> None:
    accepting = Factory.forProtocol(Protocol)
    accepting.noisy = False
    port = await serverFromString(reactor, listen).listen(accepting)
    host = port.getHost()
    server.zone.addresses(host.host)
    asked = ask(NAME, host.port, servers=[server.address])
    await until(reactor, lambda: asked.told)
    connected: Any = (
        await asked.told[0][0].connector(reactor).connect(Factory.forProtocol(Protocol))
    )
    peer = connected.transport.getPeer()
    assert (peer.host, peer.port) == (host.host, host.port)
    connected.transport.abortConnection()
    await port.stopListening()


# The resolver


@pytest_twisted.ensureDeferred
async def test_the_real_resolver_answers_as_the_fake_does(server: NameServer) -> None:
    server.zone.addresses("10.0.0.7", "::7", ttl=30)
    server.zone.services((0, 1, 6379, "one.test"))
    resolver = client.Resolver(servers=[server.address], reactor=reactor)
    answers, _, _ = await resolver.lookupAddress(NAME, (1, 3, 6))
    assert [(each.type, each.ttl, each.payload.dottedQuad()) for each in answers] == [
        (dns.A, 30, "10.0.0.7")
    ]
    (answer,), _, _ = await resolver.lookupIPV6Address(NAME, (1, 3, 6))
    assert (answer.type, answer.ttl, answer.payload.address[-1]) == (dns.AAAA, 30, 7)
    (answer,), _, _ = await resolver.lookupService(SERVICE, (1, 3, 6))
    assert (answer.type, answer.payload.target.name) == (dns.SRV, b"one.test")
    none, _, _ = await resolver.lookupAddress(SERVICE, (1, 3, 6))
    assert none == []
    with pytest.raises(DNSNameError) as caught:
        await resolver.lookupAddress("absent.test", (1, 3, 6))
    assert isinstance(caught.value.args[0], dns.Message)


@pytest_twisted.ensureDeferred
async def test_a_server_that_fails_is_a_failure_until_it_recovers(
    ask: Ask, server: NameServer, log_events: list[LogEvent], logged_failures: LoggedFailures
) -> None:
    server.zone.addresses("10.0.0.7")
    asked = ask(NAME, 6379, servers=[server.address])
    await asked.tells("tcp:10.0.0.7:6379")
    server.zone.fails = True
    heard = server.heard
    await until(reactor, lambda: server.heard >= heard + 6)
    assert len(asked.told) == 1
    server.zone.fails = False
    server.zone.addresses("10.0.0.8")
    await asked.tells("tcp:10.0.0.8:6379")
    log = [formatEvent(each) for each in log_events if each["log_namespace"] == "kolus.sources.dns"]
    assert log[0] == (
        f"looking up the addresses of {NAME} failed: the name server failed; "
        "the last good list stays"
    )
    assert log[1:] == [f"lookups of {NAME} succeed again"]
    assert logged_failures.flush(ZeroDivisionError)  # the server's own


@pytest_twisted.ensureDeferred
async def test_a_name_that_is_no_more_keeps_what_was_told(
    ask: Ask, server: NameServer, log_events: list[LogEvent]
) -> None:
    server.zone.addresses("10.0.0.7")
    asked = ask(NAME, 6379, servers=[server.address])
    await asked.tells("tcp:10.0.0.7:6379")
    server.zone.records.clear()
    await until(reactor, lambda: "there is no such name" in "".join(map(formatEvent, log_events)))
    assert len(asked.told) == 1


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_answer_is_a_failure_until_it_does(
    ask: Ask, server: NameServer, log_events: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kolus.sources.dns._TIMEOUTS", (0.02, 0.02))
    server.zone.addresses("10.0.0.7")
    server.answers = False
    asked = ask(NAME, 6379, servers=[server.address])
    await until(reactor, lambda: "no answer in time" in "".join(map(formatEvent, log_events)))
    assert server.heard >= 4
    server.answers = True
    await asked.tells("tcp:10.0.0.7:6379")


@pytest_twisted.ensureDeferred
async def test_a_long_answer_that_cannot_be_had_by_tcp_is_a_failure(
    ask: Ask, datagram_server: NameServer, log_events: list[LogEvent]
) -> None:
    datagram_server.zone.addresses(*MANY)
    asked = ask(NAME, 6379, kind="ipv4", servers=[datagram_server.address])
    await until(reactor, lambda: "ConnectionRefusedError" in "".join(map(formatEvent, log_events)))
    datagram_server.zone.addresses("10.0.0.7")
    await asked.tells("tcp:10.0.0.7:6379")


@pytest_twisted.ensureDeferred
async def test_a_question_that_twisted_would_take_for_one_still_out_is_asked_anew(
    ask: Ask, server: NameServer
) -> None:
    server.zone.addresses("10.0.0.7")
    resolver = client.Resolver(servers=[server.address], reactor=OutOfDescriptors(reactor))
    with pytest.raises(CannotListenError):
        resolver.lookupAddress(NAME)
    assert not resolver.lookupAddress(NAME).called  # nor will it ever be: nothing was sent
    asked = ask(
        NAME, 6379, kind="ipv4", servers=[server.address], reactor=OutOfDescriptors(reactor)
    )
    await asked.tells("tcp:10.0.0.7:6379")


# Stopping


@pytest_twisted.ensureDeferred
async def test_a_stop_amid_a_question_leaves_no_call_and_no_socket(
    ask: Ask, server: NameServer
) -> None:
    before = await in_reactor()
    server.answers = False
    asked = ask(NAME, 6379, servers=[server.address])
    await until(reactor, lambda: server.heard == 2)
    asked.source.stop()
    assert await in_reactor() == before


@pytest_twisted.ensureDeferred
async def test_a_stop_amid_a_question_over_tcp_leaves_no_call_and_no_socket(
    ask: Ask, server: NameServer
) -> None:
    before = await in_reactor()
    server.answers_tcp = False
    server.zone.addresses(*MANY)
    asked = ask(NAME, 6379, kind="ipv4", servers=[server.address])
    await until(reactor, lambda: server.tcp)
    asked.source.stop()
    await until(reactor, lambda: not server.tcp)
    assert await in_reactor() == before


@pytest_twisted.ensureDeferred
async def test_a_stop_closes_the_connection_that_the_resolver_keeps(
    ask: Ask, server: NameServer
) -> None:
    before = await in_reactor()
    server.zone.addresses(*MANY, ttl=300)
    asked = ask(NAME, 6379, kind="ipv4", servers=[server.address])
    await until(reactor, lambda: asked.told)
    assert len(server.tcp) == 1
    asked.source.stop()
    await until(reactor, lambda: not server.tcp)
    assert await in_reactor() == before


@pytest_twisted.ensureDeferred
async def test_a_stop_amid_connecting_over_tcp_leaves_no_call_and_no_socket(ask: Ask) -> None:
    """The answer is too long, and the name server's queue of connections is full."""
    before = await in_reactor()
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(address)
        port = reactor.listenUDP(address[1], Truncating(), interface="127.0.0.1")
        asked = ask(NAME, 6379, kind="ipv4", servers=[address])
        await until(reactor, reactor.getWriters)
        asked.source.stop()
        await port.stopListening()
    assert await in_reactor() == before


# dnsmasq


@pytest_twisted.async_yield_fixture
async def dnsmasq(dnsmasq_binary: str, tmp_path: Path) -> AsyncIterator[Server]:
    server = name_servers.dnsmasq(reactor, dnsmasq_binary, tmp_path)
    await server.start()
    yield server
    await server.kill()


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_addresses_that_dnsmasq_tells_are_the_backends(ask: Ask, dnsmasq: Server) -> None:
    asked = ask(NAME, 6379, servers=[("127.0.0.1", dnsmasq.port)])
    await asked.tells("tcp:10.0.0.7:6379", "tcp:10.0.0.8:6379", r"tcp:\:\:7:6379")


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_services_that_dnsmasq_tells_are_the_backends_with_their_weights(
    ask: Ask, dnsmasq: Server
) -> None:
    asked = ask(SERVICE, kind="srv", servers=[("127.0.0.1", dnsmasq.port)])
    await asked.tells("tcp:one.test:6379", "tcp:two.test:6380")
    assert [each.weight for each in asked.told[0]] == [60, 0.1]


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_dnsmasq_says_that_there_is_no_such_name(
    ask: Ask, dnsmasq: Server, log_events: list[LogEvent]
) -> None:
    asked = ask("absent.test", 6379, servers=[("127.0.0.1", dnsmasq.port)])
    await until(reactor, lambda: "there is no such name" in "".join(map(formatEvent, log_events)))
    assert asked.told == []
