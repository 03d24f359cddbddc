"""A steady clock on each of Twisted's reactors, in a process of its own."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from tests.net.child import CHECKOUT

pytestmark = pytest.mark.long

REACTORS = pytest.mark.parametrize("kind", ["select", "poll", "epoll", "asyncio"])

BEGIN = """
import signal, socket, sys, time
from importlib import import_module
signal.alarm(20)  # the reactor's own timers may never come
import_module("twisted.internet." + sys.argv[1] + "reactor").install()
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.logger import globalLogBeginner
from kolus.daemon.steady_time import use_steady_time
from kolus.support import steady, steady_seconds

def tell(event):
    if "was blocked" in (event["log_format"] or ""):
        print("stalled", round(event["least"], 1), round(event["most"], 1))
globalLogBeginner.beginLoggingTo([tell], redirectStandardIO=False)
"""

STALL = """
class Factory:
    numPorts = 0
    doStart = doStop = lambda self: None
    def __init__(self, heard):
        self.heard = heard
    def buildProtocol(self, peer):
        protocol = Protocol()
        protocol.dataReceived = self.heard
        return protocol

def pair(heard):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory(heard))
    return ours, theirs

def block(data):
    theirs.send(b"an answer")
    time.sleep(1)

def judge(name):
    print(name)

asked, theirs = pair(lambda data: print("read", data.decode()))
busy, peer = pair(block)
clock = steady(reactor)
clock.callLater(0.3, judge, "one")
clock.callLater(0.5, judge, "two")
reactor.callLater(0.1, peer.send, b"work")
reactor.callLater(1.5, reactor.stop)
reactor.run()
"""

SET_BACK = """
clock, began = steady(reactor), time.monotonic()

def passed(name):
    print(name, round(time.monotonic() - began, 1))

def set_back():
    real = reactor.seconds
    reactor.seconds = lambda: real() - 3600
    clock.callLater(0.2, passed, "after")

clock.callLater(0.5, passed, "before")
clock.callLater(30, passed, "never")
clock.callLater(1.0, reactor.stop)
reactor.callLater(0.1, set_back)
reactor.run()
"""

TRAFFIC = """
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from kolus import Backend, Ejection, Policy, Pool
from kolus.testing import FakeBackend, result_of

def use():
    result_of(pool.connect("us", backend)).release()

def set_back():
    real = reactor.seconds
    reactor.seconds = lambda: real() - 3600
    LoopingCall(use).start(0.05)
    reactor.callLater(1.5, lambda: print(len(fake.connections), pool.counters().overdue))
    reactor.callLater(1.6, reactor.stop)

fake = FakeBackend(reactor)
backend = Backend(fake)
policy = Policy(idle_timeout=0.5, lifetime=None, leak_after=0.5)
pool = Pool(reactor, Protocol, policy=policy)
held, *others = [result_of(pool.connect("us", backend)) for _ in range(4)]
for lease in others:
    lease.release()
# The reactor on asyncio would not end its turn if its clock were set back amid its calls.
loop = getattr(reactor, "_asyncioEventloop", None)
(loop.call_soon if loop else reactor.callFromThread)(set_back)
reactor.run()
"""

REPLACED = """
began = time.monotonic()
call = reactor.callLater(1, print, "never")
use_steady_time(reactor)  # it has a call to make
assert reactor.seconds() > 1e9
call.cancel()
use_steady_time(reactor)
assert abs(reactor.seconds() - steady_seconds()) < 1
steady(reactor).callLater(0.2, lambda: print("steady", round(time.monotonic() - began, 1)))
reactor.callLater(0.4, lambda: print("own", round(time.monotonic() - began, 1)))
reactor.callLater(0.5, reactor.stop)
reactor.run()
"""

DAEMON = """
from kolus.daemon.tap import Options, makeService
options = Options()
options.parseOptions(["--backend=tcp:127.0.0.1:1", "--listen=tcp:0:interface=127.0.0.1"])
assert abs(reactor.seconds() - steady_seconds()) < 1
service, began = makeService(options), time.monotonic()
service.startService()
reactor.callLater(0.2, lambda: print("called", round(time.monotonic() - began, 1)))
reactor.callLater(0.4, lambda: service.stopService().addCallback(lambda _: reactor.stop()))
reactor.run()
"""


async def printed(program: str, kind: str) -> list[str]:
    its: Any = reactor
    out, errors, status = await getProcessOutputAndValue(
        sys.executable, ("-c", BEGIN + program, kind), {}, str(CHECKOUT), its
    )
    assert status == 0, errors.decode()
    return out.decode().splitlines()  # type: ignore[no-any-return]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_what_came_while_the_reactor_was_blocked_is_read_before_late_calls(kind: str) -> None:
    lines = await printed(STALL, kind)
    (stall,) = [line for line in lines if line.startswith("stalled")]
    least, most = map(float, stall.split()[1:])
    assert 0.7 <= least <= most <= 2
    assert [line for line in lines if line != stall] == ["read an answer", "one", "two"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_set_back_delays_no_call(kind: str) -> None:
    assert await printed(SET_BACK, kind) == ["after 0.3", "before 0.5"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_requests_that_are_served_at_once_notice_that_the_clock_was_set_back(
    kind: str,
) -> None:
    assert await printed(TRAFFIC, kind) == ["2 1"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_a_reactor_that_tells_another_time_makes_its_calls_by_it(kind: str) -> None:
    assert await printed(REPLACED, kind) == ["steady 0.2", "own 0.4"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_twistd_kolus_has_the_reactor_tell_a_time_that_nobody_can_set(kind: str) -> None:
    assert await printed(DAEMON, kind) == ["called 0.2"]
