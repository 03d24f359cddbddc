"""The idle path over real transports: TCP, and what is more than TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trustme
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    ProcessEndpoint,
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from kolus import Backend, IKolusManager, Pool
from tests.bench.idle import awaited, kolus
from tests.bench.measure import Case, Meter, together

TCP = "idle, over TCP"
OTHERS = ("TLS", "a `WrappingFactory`", "a process")


@implementer(IStreamClientEndpoint)
class Wrapping:
    """Another endpoint, with a wrapper around each protocol that it connects."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        return self._endpoint.connect(WrappingFactory(protocolFactory))


def _options() -> tuple[Any, Any]:
    """Of a TLS server, and of a client that trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    root = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
    server = ssl.PrivateCertificate.loadPEM(pem).options()
    return server, ssl.optionsForClientTLS("localhost", trustRoot=root)


async def _managed(reactor: Any, endpoint: Any) -> IKolusManager:
    pool, backend = Pool(reactor, Protocol), Backend(endpoint)
    (await pool.connect("us", backend)).release()
    manager = pool.manager(backend)
    assert manager is not None
    return manager


@asynccontextmanager
async def transport_cases(reactor: Any, port: int) -> AsyncIterator[list[Case]]:
    """One case, for they are compared.

    @param port: of a TCP server.
    """
    server, client = _options()
    secure = SSL4ServerEndpoint(reactor, 0, server, interface="127.0.0.1")
    listening = await secure.listen(Factory.forProtocol(Protocol))
    tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    tls = TCP4ClientEndpoint(reactor, "127.0.0.1", listening.getHost().port)
    endpoints = {
        TCP: tcp,
        over("TLS"): wrapClientTLS(client, tls),
        over("a `WrappingFactory`"): Wrapping(tcp),
        over("a process"): ProcessEndpoint(reactor, b"/bin/cat", [b"cat"]),
    }
    managers = {what: await _managed(reactor, each) for what, each in endpoints.items()}
    try:
        cases = [awaited(what, kolus(each)) for what, each in managers.items()]
        yield [after_a_turn(reactor, together(cases))]
    finally:
        await listening.stopListening()
        for each in managers.values():
            await each.drain()


def after_a_turn(reactor: Any, case: Case) -> Case:
    """The case, after all timers that are due: a pool looks closer while its own are late."""

    async def sample(meter: Meter) -> Mapping[str, float]:
        await deferLater(reactor, 0)
        return await case.sample(meter)

    return replace(case, sample=sample)


def over(what: str) -> str:
    """How the figures are named."""
    return f"idle, over {what}"
