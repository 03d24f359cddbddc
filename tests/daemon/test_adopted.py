"""A UNIX socket that systemd has bound, or a daemon that ran before."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol

from kolus.daemon.listening.adopted import LentEndpoint, adopted_unix_port

FACTORY = Factory.forProtocol(Protocol)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        bound.listen(5)
        bound.setblocking(False)
        (tmp_path / "s").chmod(0o640)
        yield bound


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest_twisted.ensureDeferred
async def test_who_lends_a_socket_has_it_as_it_was_and_goes_on_with_it(
    listening: socket.socket,
) -> None:
    path = listening.getsockname()
    lent = LentEndpoint(reactor, listening.fileno())
    port = await lent.listen(FACTORY)
    assert mode_of(path) == 0o640
    assert port.getHost().name == path.encode()
    await port.stopListening()
    assert mode_of(path) == 0o640
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        listening.accept()[0].close()


@pytest_twisted.ensureDeferred
async def test_what_is_inherited_for_good_keeps_its_mode_and_is_removed_at_the_end(
    listening: socket.socket,
) -> None:
    path = listening.getsockname()
    port = adopted_unix_port(reactor, listening, FACTORY, is_lent=False)
    assert mode_of(path) == 0o640
    await port.stopListening()
    assert not os.path.exists(path)


@pytest_twisted.ensureDeferred
async def test_a_descriptor_that_is_none_is_told() -> None:
    with pytest.raises(Exception, match="a socket of systemd"):
        await LentEndpoint(reactor, 999_999).listen(FACTORY)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest_twisted.ensureDeferred
async def test_a_socket_of_systemd_is_listened_on_again_after_it_was_not(
    family: int, tmp_path: Path
) -> None:
    with socket.socket(family) as lent:
        lent.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        lent.listen(5)
        endpoint = LentEndpoint(reactor, lent.fileno())
        for _ in range(2):
            port = await endpoint.listen(FACTORY)
            await maybeDeferred(port.stopListening)
        with socket.socket(family) as client:
            client.connect(lent.getsockname())
            lent.accept()[0].close()


def test_a_socket_of_systemd_of_another_kind_is_told_of(listening: socket.socket) -> None:
    with pytest.raises(ValueError, match="another domain: domain=UNIX"):
        LentEndpoint(reactor, listening.fileno()).check(socket.AF_INET)
    with socket.socket() as silent, pytest.raises(ValueError, match="does not listen"):
        LentEndpoint(reactor, silent.fileno()).check(socket.AF_INET)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagrams, pytest.raises(ValueError, match="use ListenStream="):
        LentEndpoint(reactor, datagrams.fileno()).check(socket.AF_INET)
