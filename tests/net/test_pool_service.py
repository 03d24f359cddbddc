"""C{PoolService} in a real application: twistd stops it in the foreground and as a daemon."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.net.child import CHECKOUT, Child
from tests.rigs.patience import PATIENCE

APPLICATION = """
from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from kolus import Pool, PoolService

class Worker(Service):
    def startService(self):
        super().startService()
        pool.connect("us", ("127.0.0.1", {port})).addCallbacks(self.work, self.fail)

    def work(self, lease):
        self.lease = lease
        lease.protocol.transport.write(b"at work,")

    def fail(self, failure):
        failure.printTraceback()
        reactor.stop()

    def stopService(self):
        reactor.callLater(0.2, self.end)

    def end(self):
        self.lease.protocol.transport.write(b"done")
        self.lease.release()

pool = Pool(reactor, Protocol)
application = Application("an application")
PoolService(pool).setServiceParent(application)
Worker().setServiceParent(application)
"""
RUN = "from twisted.scripts.twistd import run; run()"


class Listener(Protocol):
    """The backend's end of the one connection.

    @ivar heard: what has arrived.
    @ivar at_work: fires when the application has its lease.
    @ivar ended: fires when the connection has, with whether that was by a close.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.at_work: Deferred[None] = Deferred()
        self.ended: Deferred[bool] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard == b"at work,":
            self.at_work.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(reason.check(ConnectionDone) is not None)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["foreground", "daemon"])
async def test_twistd_waits_at_its_end_for_the_lease_of_an_application(
    mode: str, tmp_path: Path
) -> None:
    from twisted.internet import reactor

    listener = Listener()
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")  # type: ignore[arg-type]
    port: Any = await endpoint.listen(Factory.forProtocol(lambda: listener))
    application, pidfile = tmp_path / "application.py", tmp_path / "pid"
    application.write_text(APPLICATION.format(port=port.getHost().port))
    options = ["--nodaemon"] if mode == "foreground" else ["--logfile=log"]
    command = [sys.executable, "-c", RUN, *options, f"--pidfile={pidfile}", "-y", application.name]
    child = Child(reactor)
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    reactor.spawnProcess(child, sys.executable, command, env=environment, path=str(tmp_path))  # type: ignore[attr-defined]
    try:
        await listener.at_work.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        assert await listener.ended.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]
        assert listener.heard == b"at work,done"
        await child.ended()
    except BaseException:
        os.kill(int(pidfile.read_text()), signal.SIGKILL)  # a daemon is not the child itself
        raise
    finally:
        await port.stopListening()
