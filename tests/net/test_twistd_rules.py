"""C{twistd kolus} with TLS on both sides, and with checks of its backends."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.threads import deferToThread

from kolus.tls import ListenerCertificates, ListenerTLS
from tests.net.child import LISTEN, twistd
from tests.net.servers import Server
from tests.net.tunnel_peers import LOOPBACK, Backend, Echo, backend, connected
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long


class Files:
    """Certificates of one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = self.path("authority.crt")
        self.authority.cert_pem.write_to_path(self.ca)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, *identities: str) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        issued = self.authority.issue_cert(*identities)
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class Speaking(Echo):
    """Echoes, without the back-pressure that TLS would not let end."""

    def connectionMade(self) -> None:
        """Nothing is to be done."""


def ask(port: int, files: Files, name: str, certificate: str | None = None) -> set[str]:
    """Send a few bytes through TLS and wait for their echo. It blocks.

    @return: the names in the server's certificate.
    """
    context = ssl.create_default_context(cafile=files.ca)
    context.set_alpn_protocols(["h2"])
    if certificate is not None:
        context.load_cert_chain(certificate)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        secure.sendall(b"hello")
        assert secure.recv(5) == b"hello"
        shown: Any = secure.getpeercert()
    return {value for _, value in shown["subjectAltName"]}


@asynccontextmanager
async def secured(files: Files) -> AsyncIterator[int]:
    """A server of db.example that demands client certificates, and echoes.

    @return: its port.
    """
    tls = ListenerTLS(certificates=(files.write("db.pem", "db.example"),), client_ca=files.ca)
    echoes = Backend(Speaking)
    endpoint = wrapServerTLS(ListenerCertificates(tls), serverFromString(reactor, LOOPBACK))
    port: Any = await endpoint.listen(echoes)
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
        for peer in echoes.connected:
            peer.transport.abortConnection()
        await gatherResults([each.lost() for each in echoes.peers])


@pytest_twisted.ensureDeferred
async def test_tls_is_ended_and_begun_with_the_right_certificates(files: Files) -> None:
    for name in ("shop.example", "_.shop.example"):
        files.write(f"front/{name}.pem", name.replace("_", "*"))
    async with secured(files) as to:
        options = {
            "backend": f"tcp:127.0.0.1:{to}",
            "backend-tls-ca": files.ca,
            "backend-tls-server-name": "db.example",
            "backend-tls-certificate": files.write("me.pem", "front.example"),
            "tls-certificates": files.path("front"),
            "tls-client-ca": files.ca,
            "connect-ahead": 1,
        }
        given = [f"--{key}={value}" for key, value in options.items()]
        async with twistd(reactor, *given, *LISTEN) as child:
            port = await child.port()
            mine = files.write("client.pem", "client.example")
            for name in ("shop.example", "www.shop.example"):
                found = name.replace("www", "*")
                assert await deferToThread(ask, port, files, name, mine) == {found}
            with pytest.raises(OSError, match=r"."):  # it shows no certificate
                await deferToThread(ask, port, files, "shop.example")
            await child.seen("has left in its TLS handshake")


@pytest_twisted.ensureDeferred
async def test_a_backend_with_the_certificate_of_another_is_not_used(files: Files) -> None:
    async with secured(files) as to:
        options = [f"--backend=tcp:127.0.0.1:{to}", f"--backend-tls-ca={files.ca}", "--wait=20"]
        options.append("--backend-tls-server-name=other.example")
        async with twistd(reactor, *options, *LISTEN) as child:
            async with connected(reactor, await child.port()) as client:
                await client.ended()
            await child.seen("cannot connect|VerificationError|CertificateError")


CONFIG = """
[groups.shop]
backends = ["{backend}"]
[listeners.shop]
listen = "tcp:0:interface=127.0.0.1"
[listeners.shop.tls]
certificates = "{certificates}"
"""


@pytest_twisted.ensureDeferred
async def test_renewed_certificates_are_shown_after_a_hangup_signal(files: Files) -> None:
    name, path = "shop.example", "front/default.pem"
    files.write(path, name)
    async with backend(reactor, Speaking) as echoes:
        text = CONFIG.format(backend=echoes.endpoint, certificates=files.path("front"))
        (files.folder / "kolus.toml").write_text(text)
        async with twistd(reactor, "--config", files.path("kolus.toml")) as child:
            port = await child.port()
            assert await deferToThread(ask, port, files, name) == {name}
            async with connected(reactor, port):  # who is in its handshake is no obstacle
                files.write(path, name, "renewed.example")
                child.signal("HUP")
                await child.seen("the configuration is reloaded")
            assert await deferToThread(ask, port, files, name) == {name, "renewed.example"}
            (files.folder / path).write_text("half a certif")
            child.signal("HUP")
            await child.seen("default.pem has no PEM certificate")
            assert await deferToThread(ask, port, files, name) == {name, "renewed.example"}


@pytest_twisted.ensureDeferred
async def test_a_backend_that_hangs_is_found_by_its_checks(redis: Server) -> None:
    options = ["--check-kind=exchange", "--check-send=PING\r\n", "--check-expect=+PONG"]
    options += ["--check-interval=0.1", "--check-timeout=1", "--check-fall=1"]
    async with twistd(reactor, "--backend", redis.endpoint, *LISTEN, *options) as child:
        await child.port()
        redis.freeze()
        await child.seen("is ejected .*its health check fails: .*the check took longer than 1 s")
        redis.thaw()
        await child.seen("its health check fails no more")
