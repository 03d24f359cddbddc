"""A UNIX socket that systemd has bound, or a daemon that ran before."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from kolus.daemon.listening.adopted_unix import LentUNIXEndpoint, adopted_unix_port

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
    lent = SimpleNamespace(fileno=os.dup(listening.fileno()))
    port = await LentUNIXEndpoint(reactor, lent).listen(FACTORY)
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
        await LentUNIXEndpoint(reactor, SimpleNamespace(fileno=999_999)).listen(FACTORY)
