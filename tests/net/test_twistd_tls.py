"""C{twistd kolus} with TLS in front."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.net.child import twistd
from tests.net.tunnel_peers import backend

pytestmark = pytest.mark.long


def ask(port: int, authority: trustme.CA, offered: list[str]) -> bytes:
    """Send a few bytes through TLS and wait for their echo. It blocks."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if offered:
        context.set_alpn_protocols(offered)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
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
