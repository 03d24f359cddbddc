"""Health checks against real servers: TLS handshakes, and an exchange with redis-server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString, wrapServerTLS

from kolus import Backend
from kolus.checking import CheckedSource, CheckResult, HealthCheck
from kolus.sources import StaticSource
from kolus.tls import (
    BackendCertificates,
    BackendTLS,
    ListenerCertificates,
    ListenerTLS,
    SecuredEndpoint,
)
from tests.net.servers import Server
from tests.net.tunnel_peers import LOOPBACK, Echo
from tests.net.tunnel_peers import Backend as Host
from tests.net.tunnel_peers import backend as plain_backend
from tests.rigs.patience import PATIENCE


async def first_check(
    backend: Backend, *, certificates: BackendCertificates | None = None, **check: Any
) -> CheckResult:
    """What the first check of a backend finds."""

    def secured(reactor: Any, backend: Backend) -> SecuredEndpoint:
        assert certificates is not None
        return SecuredEndpoint.around(backend.connector(reactor), certificates)

    ended: Deferred[None] = Deferred()
    source = CheckedSource(
        reactor,
        StaticSource([backend]),
        HealthCheck(fall=1, timeout=PATIENCE, **check),
        lambda backend, failure: None if ended.called else ended.callback(None),
        make_endpoint=None if certificates is None else secured,
    )
    source.start(lambda backends: None)
    await ended
    (result,) = source.results()
    source.stop()
    return result


@asynccontextmanager
async def secured(folder: Path) -> AsyncIterator[str]:
    """A server of C{db.example} with TLS, which echoes.

    @return: its endpoint string.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    path = str(folder / "server.pem")
    authority.issue_cert("db.example").private_key_and_cert_chain_pem.write_to_path(path)
    certificates = ListenerCertificates(ListenerTLS(certificates=(path,)))
    endpoint = wrapServerTLS(certificates, serverFromString(reactor, LOOPBACK))
    echoes = Host(Speaking)
    port: Any = await endpoint.listen(echoes)
    try:
        yield f"tcp:127.0.0.1:{port.getHost().port}"
    finally:
        await port.stopListening()
        await gatherResults([each.lost() for each in echoes.peers])


class Speaking(Echo):
    def connectionMade(self) -> None:
        """Without back-pressure, which TLS would not let end."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@pytest_twisted.ensureDeferred
async def test_a_check_of_tls_completes_a_handshake_and_needs_no_trust(tmp_path: Path) -> None:
    async with secured(tmp_path) as endpoint:
        result = await first_check(Backend(endpoint), kind="tls")
    assert (result.is_up, result.error) == (True, "")


@pytest_twisted.ensureDeferred
async def test_a_server_that_speaks_no_tls_fails_a_check_of_tls() -> None:
    async with plain_backend(reactor) as echoes:
        result = await first_check(Backend(echoes.endpoint), kind="tls")
        assert not result.is_up
        assert "Error" in result.error
        assert (await first_check(Backend(echoes.endpoint))).is_up


@pytest.mark.parametrize(("host", "is_up"), [("db.example", True), ("other.example", False)])
@pytest_twisted.ensureDeferred
async def test_a_check_of_a_backend_with_tls_verifies_as_its_clients_do(
    host: str, is_up: bool, tmp_path: Path
) -> None:
    async with secured(tmp_path) as endpoint:
        settings = BackendTLS(ca=str(tmp_path / "ca.pem"), server_name=host)
        check: dict[str, Any] = {"certificates": BackendCertificates(settings)}
        result = await first_check(Backend(endpoint), **check)
        assert result.is_up is is_up, result
        check |= {"kind": "exchange", "send": b"abc", "expect": b"abc"}
        exchanged = await first_check(Backend(endpoint), **check)
        assert exchanged.is_up is is_up
    if not is_up:
        assert "VerificationError" in result.error or "CertificateError" in result.error


@pytest.mark.long
@pytest.mark.parametrize(("expect", "is_up"), [(b"+PONG", True), (b"+PANG", False)])
@pytest_twisted.ensureDeferred
async def test_an_exchange_with_redis(expect: bytes, is_up: bool, redis: Server) -> None:
    check: dict[str, Any] = {"kind": "exchange", "send": b"PING\r\nQUIT\r\n", "expect": expect}
    result = await first_check(Backend(redis.endpoint), **check)
    assert result.is_up is is_up
    assert is_up or "PONG" in result.error
