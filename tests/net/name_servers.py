"""Name servers on loopback, each for one test, with the records of C{backends.test}."""

from __future__ import annotations

import errno
import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorUDP
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.server import DNSServerFactory
from zope.interface import implementer

from tests.net.asking import until
from tests.net.servers import Server, free_port

__all__ = [
    "NAME",
    "SERVICE",
    "NameServer",
    "OutOfDescriptors",
    "Truncating",
    "Zone",
    "dnsmasq",
]

NAME, SERVICE = "backends.test", "_redis._tcp.backends.test"


class Zone(FileAuthority):
    """The records of C{backends.test}, which may be changed at any time."""

    def __init__(self) -> None:
        super().__init__("")
        self.soa = (b"test", dns.Record_SOA(b"test", b"admin.test"))
        self.records: dict[bytes, list[Any]] = {}
        self.fails = False

    def addresses(self, *addresses: str, ttl: int = 0) -> None:
        kinds = {False: dns.Record_A, True: dns.Record_AAAA}
        self.records[NAME.encode()] = [kinds[":" in each](each, ttl) for each in addresses]

    def services(self, *services: tuple[int, int, int, str]) -> None:
        self.records[SERVICE.encode()] = [dns.Record_SRV(*each, 0) for each in services]

    def _lookup(self, *arguments: Any) -> Any:
        if self.fails:
            raise ZeroDivisionError
        return super()._lookup(*arguments)


class NameServer:
    """A name server for a C{Zone} on loopback. It can ignore TCP, or everything.

    @ivar heard: how many questions have come by datagram.
    @ivar tcp: the connections that it has.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.zone = Zone()
        self.heard = 0
        self.tcp: list[Any] = []
        self.factory = DNSServerFactory(authorities=[self.zone])
        self.factory.noisy = False
        self._datagrams = dns.DNSDatagramProtocol(self, reactor)
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.answers = True
        self.answers_tcp = True

    def listen(self, *, tcp: bool = True) -> None:
        self._udp_port = self._reactor.listenUDP(self.port, self._datagrams, interface="127.0.0.1")
        self._tcp_port = None
        if tcp:
            accepting = Factory.forProtocol(lambda: dns.DNSProtocol(self, self._reactor))
            accepting.noisy = False
            self._tcp_port = self._reactor.listenTCP(self.port, accepting, interface="127.0.0.1")

    def messageReceived(self, message: dns.Message, protocol: Any, address: Any = None) -> None:
        if address is not None:
            self.heard += 1
            message.maxSize = 512  # Twisted's server would send datagrams of any length
        if self.answers if address is not None else self.answers_tcp:
            self.factory.messageReceived(message, protocol, address)

    def connectionMade(self, protocol: Any) -> None:
        self.tcp.append(protocol)

    def connectionLost(self, protocol: Any) -> None:
        self.tcp.remove(protocol)

    async def stop(self) -> None:
        await self._udp_port.stopListening()
        if self._tcp_port is not None:
            await self._tcp_port.stopListening()
        for each in self.tcp:
            each.transport.abortConnection()
        await until(self._reactor, lambda: not self.tcp)


class Truncating(DatagramProtocol):
    """Says of every answer that it is too long."""

    def datagramReceived(self, data: bytes, address: Any) -> None:
        message = dns.Message()
        message.fromStr(data)
        message.answer, message.trunc = 1, 1
        assert self.transport is not None
        self.transport.write(message.toStr(), address)


@implementer(IReactorUDP)
class OutOfDescriptors:
    """The reactor, but once there is no descriptor for a datagram port."""

    def __init__(self, reactor: Any) -> None:
        self.refused = 0
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenUDP(self, port: int, *arguments: Any, **options: Any) -> Any:
        if self.refused == 0:
            self.refused += 1
            raise CannotListenError("", port, OSError(errno.EMFILE, "Too many open files"))
        return self._reactor.listenUDP(port, *arguments, **options)


_RECORDS = (
    f"--address=/{NAME}/10.0.0.7",
    f"--address=/{NAME}/10.0.0.8",
    f"--address=/{NAME}/::7",
    f"--srv-host={SERVICE},one.test,6379,10,60",
    f"--srv-host={SERVICE},two.test,6380,10,0",
    f"--srv-host={SERVICE},spare.test,6381,20,1",
)


def dnsmasq(reactor: Any, binary: str, folder: Path, records: Sequence[str] = _RECORDS) -> Server:
    """A dnsmasq that knows C{backends.test} alone.

    @param records: its options that say what it knows.
    """
    port = free_port()
    options = [
        "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        f"--port={port}",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        f"--user={getpass.getuser()}",
        "--pid-file=",
        "--local=/test/",
        "--local-ttl=7",
        *records,
    ]
    return Server(reactor, [binary, *options], folder, port, b"started, version")
