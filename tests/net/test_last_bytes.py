"""What one side sent before its reset, where a transport of Twisted's carries the tunnel."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from kolus.tunnel import End
from kolus.tunnel.wires.unsent import unsent
from tests.conftest import LoggedFailures
from tests.net.tunnel_peers import LOOPBACK, until
from tests.rigs.patience import PATIENCE

RESET = struct.pack("ii", 1, 0)
SAID = bytes(range(256)) * 100  # no more than a new connection takes before it is read
MORE_THAN_FITS = bytes(32 * 1024 * 1024)

# Twisted 26.10 passes pyOpenSSL 26 what it would rather not have.
DEPRECATED = "ignore:Passing pyOpenSSL (X509|PKey) objects is deprecated:DeprecationWarning"


class Hearer:
    """Keeps what an end tells."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.fails = False
        self.reason: Failure | None = None

    def received(self, data: bytes) -> None:
        assert self.reason is None
        if self.fails:
            raise ZeroDivisionError
        self.got += data

    def read_ended(self) -> None:
        """It will send no more."""

    def write_ended(self) -> None:
        """All was sent."""

    def lost(self, reason: Failure) -> None:
        self.reason = reason


@asynccontextmanager
async def ends(listen: str = LOOPBACK) -> AsyncIterator[tuple[End, Hearer, socket.socket]]:
    """An end with its listener, and the socket of its peer."""
    made: list[End] = []

    def make() -> End:
        made.append(End())
        return made[-1]

    port = await serverFromString(reactor, listen).listen(Factory.forProtocol(make))  # type: ignore[arg-type]
    its = port.getHost()
    is_unix = listen.startswith("unix")
    raw = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
    try:
        raw.connect(its.name if is_unix else ("127.0.0.1", its.port))
        await until(reactor, lambda: made and made[0].connected)
        (end,) = made
        hearer = Hearer()
        end.listen(hearer)
        yield end, hearer, raw
        await until(reactor, lambda: hearer.reason)
    finally:
        raw.close()
        await port.stopListening()


def say_and_reset(raw: socket.socket) -> None:
    raw.sendall(SAID)
    deadline = time.monotonic() + PATIENCE
    while unsent(raw):  # the end's machine has it all, then; a reset loses what it has not
        assert time.monotonic() < deadline
        time.sleep(0.001)
    if raw.family != socket.AF_UNIX:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    raw.close()  # on a UNIX socket it is a reset, too, as not all was read


@pytest_twisted.ensureDeferred
async def test_what_was_sent_before_a_reset_is_heard_although_the_end_is_paused_and_writes() -> (
    None
):
    async with ends() as (end, hearer, raw):
        end.pause()
        end.write(MORE_THAN_FITS)
        say_and_reset(raw)
        await until(reactor, lambda: hearer.reason)
        assert hearer.got == SAID


@pytest_twisted.ensureDeferred
async def test_what_was_sent_before_a_unix_socket_broke_is_heard(tmp_path: Path) -> None:
    async with ends(f"unix:{tmp_path / 'socket'}") as (end, hearer, raw):
        end.pause()
        end.write(MORE_THAN_FITS)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(SAID))
        say_and_reset(raw)
        await until(reactor, lambda: hearer.reason)
        assert hearer.got == SAID


@asynccontextmanager
async def secured_ends(folder: Path) -> AsyncIterator[tuple[End, Hearer, ssl.SSLSocket]]:
    """As C{ends}, when the handshake is over at both."""
    authority = trustme.CA()
    file = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with ends(f"ssl:0:interface=127.0.0.1:privateKey={file}") as (end, hearer, raw):
        how: Any = {"server_hostname": "127.0.0.1"}
        with await deferToThread(context.wrap_socket, raw, **how) as its:
            end.write(b"!")
            assert await deferToThread(its.recv, 1) == b"!"
            yield end, hearer, its


@pytest.mark.filterwarnings(DEPRECATED)
@pytest_twisted.ensureDeferred
async def test_what_was_sent_over_tls_before_a_reset_is_heard(tmp_path: Path) -> None:
    async with secured_ends(tmp_path) as (end, hearer, its):
        end.pause()
        end.write(MORE_THAN_FITS)
        say_and_reset(its)
        await until(reactor, lambda: hearer.reason)
        assert hearer.got == SAID


@pytest.mark.filterwarnings(DEPRECATED)
@pytest.mark.parametrize("said", [b"1", SAID])
@pytest_twisted.ensureDeferred
async def test_what_was_written_over_tls_arrives_before_a_reset(
    said: bytes, tmp_path: Path
) -> None:
    async with secured_ends(tmp_path) as (end, _, its):
        end.write(said)
        end.reset()
        assert await deferToThread(_heard, its) == said


def _heard(its: ssl.SSLSocket) -> bytes:
    its.settimeout(PATIENCE)
    got = bytearray()
    with suppress(ConnectionResetError, ssl.SSLEOFError):
        while data := its.recv(100_000):
            got += data
    return bytes(got)


@pytest_twisted.ensureDeferred
async def test_an_end_that_fails_on_what_it_hears_last_is_lost_all_the_same(
    logged_failures: LoggedFailures,
) -> None:
    async with ends() as (end, hearer, raw):
        hearer.fails = True
        end.pause()
        end.write(MORE_THAN_FITS)
        say_and_reset(raw)
        await until(reactor, lambda: hearer.reason)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


@pytest_twisted.ensureDeferred
async def test_an_end_that_is_aborted_hears_nothing_more() -> None:
    async with ends() as (end, hearer, raw):
        end.pause()
        raw.sendall(SAID)
        end.abort()
        await until(reactor, lambda: hearer.reason)
        assert hearer.got == b""
