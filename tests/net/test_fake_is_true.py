"""C{kolus.testing.FakeBackend} makes the same calls to its client as a real backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted

from tests.conftest import LoggedFailures
from tests.net.scenes import FakeScene, HalfCloser, RealScene, Scene

Script = Callable[[Scene], Awaitable[None]]


class ProtocolError(Exception):
    """A client's own mistake."""


async def connect(scene: Scene) -> None:
    scene.connect()
    await scene.settle()


async def connect_refused(scene: Scene) -> None:
    scene.connect_in_vain()
    await scene.settle()


async def connect_cancelled_while_pending(scene: Scene) -> None:
    scene.connect()
    scene.cancel()
    await scene.settle()


async def connect_cancelled_after_it_fired(scene: Scene) -> None:
    await scene.connected()
    scene.cancel()
    await scene.settle()


async def connect_without_a_protocol(scene: Scene) -> None:
    scene.connect(lambda _: None)
    await scene.settle()


async def connect_with_a_factory_that_raises(scene: Scene) -> None:
    def build(_: Scene) -> Any:
        raise ProtocolError

    scene.connect(build)
    await scene.settle()


async def close_while_made(scene: Scene) -> None:
    scene.reactions["connectionMade"] = lambda client: client.transport.loseConnection()
    await scene.connected()


async def abort_while_made(scene: Scene) -> None:
    scene.reactions["connectionMade"] = lambda client: client.transport.abortConnection()
    await scene.connected()


async def echo(scene: Scene) -> None:
    await scene.connected()
    scene.act("write", b"hello")
    await scene.settle()
    scene.act("writeSequence", [b"a", b"b"])
    await scene.settle()
    scene.look()


async def peer_speaks_first(scene: Scene) -> None:
    await scene.connected()
    scene.peer.speak(b"hello")
    await scene.settle()


async def write_while_hearing(scene: Scene) -> None:
    await scene.connected()

    def answer_once(_: object) -> None:
        del scene.reactions["dataReceived"]
        scene.act("write", b"again")

    scene.reactions["dataReceived"] = answer_once
    scene.act("write", b"hello")
    await scene.settle()


async def close(scene: Scene) -> None:
    await scene.connected()
    scene.act("loseConnection")
    scene.act("loseConnection")
    await scene.settle()
    scene.act("loseConnection")
    scene.act("abortConnection")
    scene.act("write", b"too late")
    await scene.settle()
    scene.look()


async def close_with_bytes_to_send(scene: Scene) -> None:
    await scene.connected()
    scene.act("write", b"last")
    scene.act("loseConnection")
    scene.act("write", b" words")
    await scene.settle()
    scene.trace.append(f"peer has {scene.peer.received!r}")


async def close_while_hearing(scene: Scene) -> None:
    await scene.connected()
    scene.reactions["dataReceived"] = lambda client: client.transport.loseConnection()
    scene.peer.speak(b"hello")
    await scene.settle()


async def close_then_peer_speaks(scene: Scene) -> None:
    await scene.connected()
    scene.act("loseConnection")
    scene.peer.speak(b"too late")
    await scene.settle()


async def abort(scene: Scene) -> None:
    await scene.connected()
    scene.act("abortConnection")
    scene.act("abortConnection")
    await scene.settle()


async def abort_with_bytes_to_send(scene: Scene) -> None:
    await scene.connected()
    scene.act("abortConnection")
    scene.act("write", b"never sent")
    scene.peer.speak(b"never heard")
    await scene.settle()
    scene.trace.append(f"peer has {scene.peer.received!r}")


async def close_then_abort(scene: Scene) -> None:
    await scene.connected()
    scene.act("loseConnection")
    scene.act("abortConnection")
    await scene.settle()


async def abort_then_close(scene: Scene) -> None:
    await scene.connected()
    scene.act("abortConnection")
    scene.act("loseConnection")
    await scene.settle()


async def peer_closes(scene: Scene) -> None:
    await scene.connected()
    scene.peer.close()
    await scene.settle()


async def peer_speaks_and_closes(scene: Scene) -> None:
    await scene.connected()
    scene.peer.speak(b"good-bye")
    scene.peer.close()
    await scene.settle()


async def peer_closes_on_one_who_hears_of_halves(scene: Scene) -> None:
    await scene.connected(HalfCloser)
    scene.peer.close()
    await scene.settle()
    scene.act("loseConnection")
    await scene.settle()


async def write_after_the_peer_closed_on_one_who_hears_of_halves(scene: Scene) -> None:
    await scene.connected(HalfCloser)
    scene.peer.close()
    await scene.settle()
    scene.act("write", b"is")
    await scene.settle()
    scene.act("write", b"anybody")
    await scene.settle()
    scene.act("write", b"there")
    await scene.settle()


async def peer_resets(scene: Scene) -> None:
    await scene.connected()
    scene.peer.reset()
    await scene.settle()


async def peer_resets_one_who_hears_of_halves(scene: Scene) -> None:
    await scene.connected(HalfCloser)
    scene.peer.reset()
    await scene.settle()


async def peer_half_closes(scene: Scene) -> None:
    await scene.connected()
    scene.peer.half_close()
    await scene.settle()


async def peer_half_closes_on_one_who_hears_of_halves(scene: Scene) -> None:
    await scene.connected(HalfCloser)
    scene.peer.half_close()
    await scene.settle()
    scene.act("write", b"still here")
    await scene.settle()
    scene.look()
    scene.act("loseConnection")
    await scene.settle()


async def half_close(scene: Scene) -> None:
    await scene.connected()
    scene.act("write", b"all")
    scene.act("loseWriteConnection")
    await scene.settle()
    scene.act("write", b"too late")
    scene.peer.speak(b"reply")
    await scene.settle()
    scene.look()
    scene.act("loseConnection")
    await scene.settle()


async def half_close_of_one_who_hears_of_halves(scene: Scene) -> None:
    await scene.connected(HalfCloser)
    scene.act("loseWriteConnection")
    await scene.settle()
    scene.peer.half_close()
    await scene.settle()
    scene.act("loseConnection")
    await scene.settle()


async def half_close_then_close(scene: Scene) -> None:
    await scene.connected(HalfCloser)
    scene.act("loseWriteConnection")
    scene.act("loseConnection")
    await scene.settle()


async def pause_and_resume(scene: Scene) -> None:
    await scene.connected()
    scene.act("pauseProducing")
    scene.peer.speak(b"one ")
    await scene.settle()
    scene.peer.speak(b"two")
    await scene.settle()
    scene.act("resumeProducing")
    await scene.settle()
    scene.peer.speak(b"three")
    await scene.settle()


async def pause_while_hearing(scene: Scene) -> None:
    await scene.connected()
    scene.reactions["dataReceived"] = lambda client: client.transport.pauseProducing()
    scene.peer.speak(b"one")
    await scene.settle()
    scene.peer.speak(b"two")
    await scene.settle()
    scene.act("resumeProducing")
    await scene.settle()


async def peer_closes_while_paused(scene: Scene) -> None:
    await scene.connected()
    scene.act("pauseProducing")
    scene.peer.speak(b"good-bye")
    scene.peer.close()
    await scene.settle()
    scene.act("resumeProducing")
    await scene.settle()


async def peer_resets_while_paused(scene: Scene) -> None:
    await scene.connected()
    scene.act("pauseProducing")
    scene.peer.reset()
    await scene.settle()
    scene.act("resumeProducing")
    await scene.settle()


async def close_while_paused(scene: Scene) -> None:
    await scene.connected()
    scene.act("pauseProducing")
    scene.act("loseConnection")
    scene.act("resumeProducing")
    scene.peer.speak(b"too late")
    await scene.settle()


async def stop_producing(scene: Scene) -> None:
    await scene.connected()
    scene.act("stopProducing")
    await scene.settle()


class Producer:
    """Writes down what it is told."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def pauseProducing(self) -> None:
        self._scene.trace.append("producer paused")

    def resumeProducing(self) -> None:
        self._scene.trace.append("producer resumed")

    def stopProducing(self) -> None:
        self._scene.trace.append("producer stopped")


async def peer_closes_on_a_producer(scene: Scene) -> None:
    await scene.connected()
    scene.act("registerProducer", Producer(scene), True)
    scene.peer.close()
    await scene.settle()
    scene.act("registerProducer", Producer(scene), True)


async def close_with_a_producer_that_has_ended(scene: Scene) -> None:
    await scene.connected()
    scene.act("registerProducer", Producer(scene), True)
    scene.act("unregisterProducer")
    scene.act("loseConnection")
    await scene.settle()


async def client_raises_when_it_hears(scene: Scene) -> None:
    def fail(_: object) -> None:
        raise ProtocolError

    await scene.connected()
    scene.reactions["dataReceived"] = fail
    scene.peer.speak(b"hello")
    await scene.settle()


async def seen(script: Script, scene: Scene) -> list[str]:
    """What there was to see when the script was played."""
    await scene.begin()
    try:
        await script(scene)
        return list(scene.trace)
    finally:
        await scene.end()


SCRIPTS: list[Script] = [
    value
    for value in tuple(globals().values())
    if getattr(value, "__annotations__", None) == {"scene": "Scene", "return": "None"}
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
@pytest_twisted.ensureDeferred
async def test_fake_backend_tells_its_client_what_a_real_one_tells(
    script: Script, logged_failures: LoggedFailures
) -> None:
    from twisted.internet import reactor

    assert await seen(script, FakeScene()) == await seen(script, RealScene(reactor))
    logged_failures.flush(ProtocolError)


@pytest_twisted.ensureDeferred
async def test_fake_backend_reports_a_client_that_raises(logged_failures: LoggedFailures) -> None:
    await seen(client_raises_when_it_hears, FakeScene())
    assert len(logged_failures.flush(ProtocolError)) == 1


def test_every_script_is_played() -> None:
    assert len(SCRIPTS) > 30
