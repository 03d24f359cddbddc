"""A pool over a UNIX socket."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from kolus import ConnectFailed, Pool
from tests.net.asking import assert_whole, until
from tests.net.peers import Asker, Host

MakePool = Callable[..., Pool[Any]]


@pytest_twisted.ensureDeferred
async def test_unix_endpoint_string_is_a_backend(make_pool: MakePool, tmp_path: Path) -> None:
    host, pool = Host(), make_pool(Asker)
    await host.listen(UNIXServerEndpoint(reactor, str(tmp_path / "socket")))
    endpoint = f"unix:{tmp_path}/socket"
    for _ in range(3):
        async with await pool.connect("test", endpoint) as lease:
            assert await lease.protocol.ask(b"hello") == b"hello"
    assert pool.counters(endpoint).connects == 1
    await assert_whole(reactor, pool, endpoint)
    await pool.close(0)
    await host.stop()


@pytest_twisted.ensureDeferred
async def test_unix_socket_where_nobody_listens_is_why_the_connect_failed(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(Asker)
    with pytest.raises(ConnectFailed):
        await pool.connect("test", f"unix:{tmp_path}/absent")


@implementer(IFileDescriptorReceiver)
class Receiver(Protocol):
    """Takes a descriptor that its peer passes."""

    def __init__(self) -> None:
        self.received: Deferred[int] = Deferred()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.received.callback(descriptor)


@pytest_twisted.ensureDeferred
async def test_descriptors_reach_a_protocol_that_can_take_them(
    make_pool: MakePool, tmp_path: Path
) -> None:
    host, pool = Host(), make_pool(Receiver)
    await host.listen(UNIXServerEndpoint(reactor, str(tmp_path / "socket")))
    (tmp_path / "passed").write_bytes(b"what the descriptor leads to")
    async with await pool.connect("test", f"unix:{tmp_path}/socket") as lease:
        await until(reactor, lambda: host.accepted)
        (peer,) = host.accepted
        with (tmp_path / "passed").open("rb") as passed:
            peer.transport.sendFileDescriptor(passed.fileno())
            peer.speak(b"!")
            descriptor = await lease.protocol.received
        with os.fdopen(descriptor, "rb") as file:
            assert file.read() == b"what the descriptor leads to"
    await pool.close(0)
    await host.stop()
