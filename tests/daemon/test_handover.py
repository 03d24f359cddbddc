"""What a process that is to be replaced gives, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from kolus.daemon.listening.handover import Handover
from kolus.daemon.listening.inheritance import Inheritance, inherit
from kolus.support import CannotListen
from tests.net.tunnel_peers import until

FACTORY = Factory.forProtocol(Protocol)


class Ports:
    """Has the same port by the names of several."""

    def __init__(self, port: Any, *names: str) -> None:
        self.port = port
        self.names = names
        self.released = False

    def offers(self) -> list[tuple[str, Any]]:
        return [(each, self.port) for each in self.names]

    def release(self) -> None:
        self.released = True


def asked(path: Path) -> Any:
    return deferToThread(inherit, str(path))


@pytest_twisted.ensureDeferred
async def test_plain_sockets_are_given_to_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "takeover"
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(FACTORY)
    ports = Ports(port, "tcp:1", "ssl:2", "haproxy:tcp:3")
    stops: list[bool] = []
    handover = Handover(reactor, str(path), ports, stops.append)
    handover.begin(Inheritance(None, {}))

    first = await asked(path)
    assert sorted(first.names) == ["haproxy:tcp:3", "tcp:1"]
    with pytest.raises(CannotListen, match="another process takes its place"):
        await asked(path)
    first.settle()
    first.connection.close()
    assert not ports.released

    await until(reactor, lambda: not handover.is_busy)
    second = await asked(path)
    endpoint = second.endpoint(reactor, "tcp:1")
    adopted = await endpoint.listen(FACTORY)
    assert adopted.getHost() == port.getHost()
    second.settle()
    second.connection.sendall(b"ready\n")
    await until(reactor, lambda: stops)
    assert stops == [True]
    assert ports.released
    assert not path.exists()
    second.connection.close()
    await adopted.stopListening()
    await port.stopListening()


def test_where_nobody_is_nothing_is_inherited(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "nobody")):
        inheritance = inherit(path)
        assert inheritance.connection is None
        assert inheritance.names == []


def test_a_path_that_cannot_be_connected_to_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=r"^takeover: cannot connect to .*: Not a directory$"):
        inherit("/dev/null/takeover")
