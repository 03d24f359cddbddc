"""A transport tells when it is told to close or to pause, whatever wraps it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from kolus.connection.transports import stop_telling, tell_before, telling
from tests.rigs.pools import Managed


class Doubter:
    doubtful = False


class Telling(StringTransport):
    """A transport that can be told all there is."""

    def startTLS(self, contextFactory: object) -> None:
        self.TLS = True

    def loseWriteConnection(self) -> None:
        pass

    def stopReading(self) -> None:
        pass


TELLS: dict[str, Any] = {
    "loseConnection": (),
    "abortConnection": (),
    "loseWriteConnection": (),
    "pauseProducing": (),
    "registerProducer": (object(), True),
    "stopProducing": (),
    "stopReading": (),
    "startTLS": (None,),
}


def wrapped(transport: Any) -> Any:
    """What a protocol has for a transport that a wrapper stands before."""
    wrapper = ProtocolWrapper(WrappingFactory(Factory.forProtocol(Protocol)), Protocol())
    wrapper.makeConnection(transport)
    return wrapper


@pytest.mark.parametrize("name", TELLS)
@pytest.mark.parametrize("wrap", [lambda transport: transport, wrapped])
def test_whoever_has_a_transport_doubts_it_when_it_is_told_something(name: str, wrap: Any) -> None:
    transport, doubter = wrap(Telling()), Doubter()
    assert tell_before(transport, doubter)
    transport.write(b"nothing of importance")
    assert not doubter.doubtful
    getattr(transport, name)(*TELLS[name])
    assert doubter.doubtful


@pytest.mark.parametrize("name", TELLS)
def test_a_transport_can_be_made_to_tell(name: str) -> None:
    kind = telling(Telling)
    transport, doubter = kind(), Doubter()
    attributes = vars(transport)
    assert tell_before(transport, doubter)
    assert type(transport) is kind
    assert vars(transport) is attributes
    assert not tell_before(transport, Doubter())
    getattr(transport, name)(*TELLS[name])
    assert doubter.doubtful
    stop_telling(transport)
    assert tell_before(transport, Doubter())
    stop_telling(transport, for_good=True)
    assert type(transport) is Telling


def test_what_a_wrapper_wraps_may_be_told_directly() -> None:
    transport, doubter = Telling(), Doubter()
    assert tell_before(wrapped(transport), doubter)
    transport.loseConnection()
    assert doubter.doubtful


def test_a_transport_that_tells_does_what_it_did_and_is_called_what_it_was() -> None:
    transport = Telling()
    assert tell_before(transport, Doubter())
    transport.loseConnection()
    assert transport.disconnecting
    assert type(transport).__name__ == "Telling"
    assert isinstance(transport, Telling)


def test_the_attributes_of_a_transport_that_tells_are_as_quick_to_find_as_before() -> None:
    transport = Telling()
    assert tell_before(transport, Doubter())
    # A dict whose keys are those of a class that its object has no more is the smaller of the two.
    assert sys.getsizeof(vars(transport)) == sys.getsizeof(dict(vars(transport)))


def test_after_a_starttls_a_transport_is_not_trusted() -> None:
    transport = Telling()
    transport.startTLS(None)
    assert not tell_before(transport, Doubter())


def test_a_transport_tells_one_at_a_time() -> None:
    transport, first, second = Telling(), Doubter(), Doubter()
    assert tell_before(transport, first)
    assert not tell_before(transport, second)
    transport.loseConnection()
    assert (first.doubtful, second.doubtful) == (True, False)


def test_a_transport_that_is_gone_keeps_nobody() -> None:
    transport, doubter = wrapped(Telling()), Doubter()
    tell_before(transport, doubter)
    stop_telling(transport)
    transport.loseConnection()
    assert not doubter.doubtful


class Slotted:
    __slots__ = ("disconnecting",)

    def loseConnection(self) -> None: ...


class MadeUp:
    @property
    def disconnecting(self) -> bool:
        return False

    def loseConnection(self) -> None: ...


class PassingOn:
    disconnecting = False

    def loseConnection(self) -> None: ...
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Replaced:
    disconnecting = False

    def __init__(self) -> None:
        self.loseConnection: Any = repr


@pytest.mark.parametrize("kind", [Slotted, MadeUp, PassingOn, Replaced, object])
def test_a_transport_that_may_end_in_other_ways_is_not_trusted(kind: Any) -> None:
    assert not tell_before(kind(), Doubter())


@pytest.mark.parametrize("spoil", ["loseConnection", "abortConnection"])
def test_one_that_is_not_trusted_is_looked_at_before_each_lease(
    monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    monkeypatch.setattr("kolus.connection.connection.tell_before", lambda *arguments: False)
    rig = Managed()
    lease = rig.lease()
    transport = lease.protocol.transport
    lease.release()
    getattr(transport, spoil)()
    assert rig.manager.try_connect("us") is None


PAUSES = pytest.mark.parametrize("wrap", [lambda transport: transport, wrapped])


@PAUSES
def test_a_transport_that_was_paused_and_resumed_is_as_it_was(wrap: Any) -> None:
    transport, doubter = wrap(Telling()), Doubter()
    tell_before(transport, doubter)
    for _ in range(2):
        transport.pauseProducing()
        assert doubter.doubtful
        transport.resumeProducing()
        assert not doubter.doubtful


@PAUSES
@pytest.mark.parametrize(
    "name", sorted({*TELLS} - {"pauseProducing", "stopProducing", "stopReading"})
)
@pytest.mark.parametrize("is_paused_first", [True, False])
def test_to_resume_a_transport_ends_no_other_doubt(
    wrap: Any, name: str, is_paused_first: bool
) -> None:
    transport, doubter = wrap(Telling(lenient=True)), Doubter()
    tell_before(transport, doubter)
    if is_paused_first:
        transport.pauseProducing()
    getattr(transport, name)(*TELLS[name])
    if not is_paused_first:
        transport.pauseProducing()
    transport.resumeProducing()
    assert doubter.doubtful


def test_to_resume_a_transport_ends_no_doubt_of_somebody_else() -> None:
    transport, doubter = Telling(), Doubter()
    tell_before(transport, doubter)
    transport.pauseProducing()
    doubter.doubtful = True
    transport.resumeProducing()
    assert doubter.doubtful


def test_what_is_released_while_it_is_paused_is_looked_at_once() -> None:
    rig = Managed(limit=1)
    rig.lease().release()
    lease = rig.lease()
    lease.protocol.transport.pauseProducing()
    (connection,) = rig.manager.connections.all
    assert connection.doubtful
    lease.release()
    assert not rig.manager.connections.order.next().doubtful
