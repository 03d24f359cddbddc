"""C{twistd kolus} with TLS in front."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from tests.net.child import LISTEN, twistd
from tests.net.tunnel_peers import backend
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long


def ask(port: int, authority: trustme.CA, offered: list[str]) -> bytes:
    """Send a few bytes through TLS and wait for their echo. It blocks."""
    return ask_over(
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE), authority, offered
    )


def ask_over(connected: socket.socket, authority: trustme.CA, offered: list[str]) -> bytes:
    """As C{ask}, over a connection that is closed then."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if offered:
        context.set_alpn_protocols(offered)
    with (
        connected as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"hello")
        return secure.recv(5)


@pytest.mark.parametrize("offered", [[], ["h2"], ["http/1.1"]])
@pytest_twisted.ensureDeferred
async def test_a_tls_front_serves_clients_whatever_protocols_they_offer(
    offered: list[str], tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "front.pem"
    )
    listen = f"ssl:0:interface=127.0.0.1:privateKey={tmp_path}/front.pem"
    async with (
        backend(reactor) as echoes,
        twistd(reactor, "--backend", echoes.endpoint, "--listen", listen) as child,
    ):
        port = await child.port()
        assert await deferToThread(ask, port, authority, offered) == b"hello"


@pytest_twisted.ensureDeferred
async def test_clients_that_are_in_their_handshake_when_sigterm_comes_are_served(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "front.pem")
    options = (f"--tls-certificates={tmp_path}/front.pem", *LISTEN, "--limit=20", "--wait=30")
    async with (
        backend(reactor) as echoes,
        twistd(reactor, "--backend", echoes.endpoint, *options) as child,
    ):
        port = await child.port()
        assert await deferToThread(ask, port, authority, []) == b"hello"  # it runs
        connected = [
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(4)
        ]
        child.signal()
        await child.seen("waiting up to 30 s for 4 clients to finish")
        asked = [deferToThread(ask_over, each, authority, []) for each in connected]
        assert await gatherResults(asked) == [b"hello"] * 4
        await child.ended()
