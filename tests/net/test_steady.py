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
signal.alarm(300)  # a call that waits for the clock of the day may never come
import_module("twisted.internet." + sys.argv[1] + "reactor").install()
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.logger import globalLogBeginner
from kolus.daemon.steady_time import use_steady_time
from kolus.support import steady, steady_seconds

def tell(event):
    if "was blocked" in (event["log_format"] or ""):
        print("stalled", event["least"], event["most"], time.monotonic() - began)
globalLogBeginner.beginLoggingTo([tell], redirectStandardIO=False)

def soon(function):
    # In a turn of its own: amid its calls asyncio's reactor reads its clock again and again.
    loop = getattr(reactor, "_asyncioEventloop", None)
    (loop.call_soon if loop else reactor.callFromThread)(function)

def set_back():
    real = reactor.seconds
    reactor.seconds = lambda: real() - 3600

began = time.monotonic()
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
    clock.callLater(0.3, print, "one")
    clock.callLater(0.5, end, "two")
    theirs.send(b"an answer")
    time.sleep(1)

def end(name):
    print(name)
    reactor.stop()

asked, theirs = pair(lambda data: print("read", data.decode()))
busy, peer = pair(block)
clock = steady(reactor)
soon(lambda: peer.send(b"work"))
reactor.run()
"""

SET_BACK = """
clock = steady(reactor)

def end():
    print("after")
    reactor.stop()

def go_on():
    set_back()
    clock.callLater(0.4, end)

clock.callLater(0.2, print, "before")
clock.callLater(60, print, "never")
soon(go_on)
reactor.run()
"""

TRAFFIC = """
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from kolus import Backend, Ejection, Policy, Pool
from kolus.testing import FakeBackend, result_of

def use():
    result_of(pool.connect("us", backend)).release()
    if len(fake.connections) == 2 and pool.counters().overdue == 1:
        print("the others are closed, and who holds one is told of")
        reactor.stop()

def go_on():
    set_back()
    LoopingCall(use).start(0.05)

fake = FakeBackend(reactor)
backend = Backend(fake)
policy = Policy(idle_timeout=0.5, lifetime=None, leak_after=0.5)
pool = Pool(reactor, Protocol, policy=policy)
held, *others = [result_of(pool.connect("us", backend)) for _ in range(4)]
for lease in others:
    lease.release()
soon(go_on)
reactor.run()
"""

REPLACED = """
call = reactor.callLater(1, print, "never")
use_steady_time(reactor)  # it has a call to make
assert reactor.seconds() > 1e9
call.cancel()
use_steady_time(reactor)
assert abs(reactor.seconds() - steady_seconds()) < 1

def own():
    print("steady")
    reactor.callLater(0.1, end)

def end():
    print("own")
    reactor.stop()

steady(reactor).callLater(0.1, own)
reactor.run()
"""

DAEMON = """
from kolus.daemon.tap import Options, makeService
options = Options()
options.parseOptions(["--backend=tcp:127.0.0.1:1", "--listen=tcp:0:interface=127.0.0.1"])
assert abs(reactor.seconds() - steady_seconds()) < 1
service = makeService(options)
service.startService()

def end():
    print("called")
    service.stopService().addCallback(lambda _: reactor.stop())

reactor.callLater(0.2, end)
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
    stalls = [line.split()[1:] for line in lines if line.startswith("stalled")]
    least, most, in_all = max(tuple(map(float, stall)) for stall in stalls)
    assert 0.7 <= least <= most <= in_all
    told = [line for line in lines if not line.startswith("stalled")]
    assert told == ["read an answer", "one", "two"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_set_back_delays_no_call(kind: str) -> None:
    assert await printed(SET_BACK, kind) == ["before", "after"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_requests_that_are_served_at_once_notice_that_the_clock_was_set_back(
    kind: str,
) -> None:
    assert await printed(TRAFFIC, kind) == ["the others are closed, and who holds one is told of"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_a_reactor_that_tells_another_time_makes_its_calls_by_it(kind: str) -> None:
    assert await printed(REPLACED, kind) == ["steady", "own"]


@REACTORS
@pytest_twisted.ensureDeferred
async def test_twistd_kolus_has_the_reactor_tell_a_time_that_nobody_can_set(kind: str) -> None:
    assert await printed(DAEMON, kind) == ["called"]
