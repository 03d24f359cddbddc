"""Debug mode: a protocol works until its lease is settled; then its error names the place."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IProtocol, ITransport
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.testing import StringTransport
from twisted.protocols import amp

from kolus.errors import LeaseError
from kolus.lease import Lease
from kolus.testing import result_of
from kolus.watching import Forked, Traced, label
from kolus.watching.guards import Guarded

redis = pytest.importorskip("txredisapi")


class Greeter(Protocol):
    greeting = b"hello"

    def greet(self, name: bytes, *, mark: bytes = b"!") -> int:
        self.transport.write(self.greeting + b" " + name + mark)  # type: ignore[union-attr]
        return 5

    def say(self, listener: Any) -> Any:
        self.listener = listener
        return listener

    def __call__(self, *names: bytes) -> list[int]:
        return [self.greet(each) for each in names]

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter("abc")

    def __getitem__(self, key: object) -> object:
        return key

    def __contains__(self, item: object) -> bool:
        return item == "a"


class Behind:
    """A connection with a protocol, for a lease."""

    manager = "the manager"
    reused = True
    age = 7.5

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.transport = StringTransport()
        protocol.makeConnection(self.transport)
        self.transport.clear()

    @property
    def leasable(self) -> Any:
        return self

    def when_lost(self, lease: Lease[Any]) -> Deferred[BaseException]:
        return Deferred()


def leased(make: Callable[[], Any] = Greeter) -> tuple[Behind, Any, Traced]:
    """What is behind a lease, the protocol that it gives, and what stands between."""
    behind = Behind(make())
    traced = Traced(behind, "leased here")
    return behind, traced.protocol, traced


def test_what_is_behind_a_traced_lease_can_be_told_through_it() -> None:
    behind, protocol, traced = leased()
    lease = Lease[Any](traced, lambda *_: None)
    assert (lease.manager, lease.reused, lease.age) == ("the manager", True, 7.5)  # type: ignore[comparison-overlap]
    assert isinstance(lease.when_lost(), Deferred)
    assert traced.leasable is behind
    assert traced.origin == "leased here"
    assert lease.protocol is protocol
    lease.release()


def test_a_leased_protocol_works_as_ever() -> None:
    behind, protocol, _ = leased()
    assert protocol.greet(b"Ann", mark=b"?") == 5
    assert protocol(b"Bob") == [5]
    protocol.transport.write(b".")
    assert behind.transport.value() == b"hello Ann?hello Bob!."
    protocol.greeting = b"bye"
    assert behind.protocol.greeting == protocol.greeting == b"bye"
    del protocol.greeting
    assert behind.protocol.greeting == b"hello"
    with pytest.raises(AttributeError):
        _ = protocol.nothing
    assert (len(protocol), [*protocol], protocol[1], bool(protocol)) == (
        3,
        ["a", "b", "c"],
        1,
        True,
    )
    assert "a" in protocol
    assert "z" not in protocol


class Entered(Protocol):
    """Has what Python looks up in a class: a block, items, and a result to await."""

    def __init__(self) -> None:
        self.items: dict[object, object] = {}

    async def __aenter__(self) -> str:
        return "entered"

    async def __aexit__(self, *_: object) -> None:
        self.items["left"] = True

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value

    def __await__(self) -> Any:
        return succeed("awaited").__await__()


def test_blocks_items_and_await_of_a_leased_protocol_work_as_ever() -> None:
    behind, protocol, traced = leased(Entered)

    async def use() -> tuple[object, object]:
        async with protocol as entered:
            protocol["key"] = protocol
        return entered, await protocol

    assert result_of(Deferred.fromCoroutine(use())) == ("entered", "awaited")
    assert behind.protocol.items == {"key": behind.protocol, "left": True}
    assert type(behind.protocol.items["key"]) is Entered
    traced.settled("web.py:33 in render")
    with pytest.raises(LeaseError, match="was used after its lease"):
        result_of(Deferred.fromCoroutine(use()))


def test_a_leased_protocol_can_do_no_more_than_the_real_one() -> None:
    _, protocol, _ = leased(Entered)
    assert not callable(protocol)
    with pytest.raises(TypeError):
        len(protocol)


def test_a_leased_protocol_passes_for_the_real_one() -> None:
    behind, protocol, _ = leased()
    assert isinstance(protocol, Greeter)
    assert IProtocol.providedBy(protocol)
    assert IProtocol(protocol) is protocol
    assert isinstance(protocol.transport, StringTransport)
    assert ITransport.providedBy(protocol.transport)
    assert IConsumer.providedBy(protocol.transport)
    assert protocol == behind.protocol
    assert behind.protocol == protocol
    assert protocol == Traced(behind, "").protocol
    assert protocol != Greeter()
    assert {behind.protocol: 1}[protocol] == 1
    assert repr(protocol) == repr(behind.protocol)
    assert str(protocol) == str(behind.protocol)
    assert weakref.ref(protocol)() is protocol


def test_methods_are_equal_as_methods_are() -> None:
    behind, protocol, _ = leased()
    assert protocol.greet == protocol.greet == behind.protocol.greet
    assert hash(protocol.greet) == hash(behind.protocol.greet)
    assert protocol.greet != protocol.say
    assert protocol.greet.__name__ == "greet"


USES: dict[str, Callable[[Any], object]] = {
    "reading an attribute": lambda protocol: protocol.greeting,
    "setting an attribute": lambda protocol: setattr(protocol, "greeting", b"bye"),
    "deleting an attribute": lambda protocol: delattr(protocol, "greeting"),
    "calling a method": lambda protocol: protocol.greet(b"Ann"),
    "calling it": lambda protocol: protocol(b"Ann"),
    "writing": lambda protocol: protocol.transport.write(b"x"),
    "its class": lambda protocol: isinstance(protocol, Greeter),
    "its interfaces": lambda protocol: IProtocol.providedBy(protocol),
    "its length": len,
    "its items": lambda protocol: [*protocol],
    "an item": lambda protocol: protocol[1],
    "whether it has an item": lambda protocol: "a" in protocol,
    "whether it is true": bool,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_using_it_after_its_lease_was_settled_tells_where_that_was(
    use: Callable[[Any], object],
) -> None:
    behind, protocol, traced = leased()
    traced.settled("web.py:33 in render")
    with pytest.raises(LeaseError) as raised:
        use(protocol)
    assert str(raised.value) == (
        f"{label(behind.protocol)} was used after its lease had been settled here:\n"
        "web.py:33 in render"
    )
    assert behind.transport.value() == b""


def test_what_was_saved_while_the_lease_was_held_is_caught_as_well() -> None:
    behind, protocol, traced = leased()
    transport, write, greet = protocol.transport, protocol.transport.write, protocol.greet
    write(b"in time")
    traced.settled("here")
    for use in (lambda: transport.write(b"x"), lambda: write(b"x"), lambda: greet(b"Ann")):
        with pytest.raises(LeaseError, match="was used after its lease had been settled here:"):
            use()
    assert behind.transport.value() == b"in time"


def test_to_compare_hash_and_print_is_no_use_of_a_connection() -> None:
    behind, protocol, traced = leased()
    known = {protocol}
    traced.settled("here")
    known.discard(protocol)
    assert not known
    assert protocol == behind.protocol
    assert repr(protocol) == str(protocol) == repr(behind.protocol)


def test_each_lease_has_its_own() -> None:
    behind, protocol, traced = leased()
    traced.settled("here")
    second = Traced(behind, "again").protocol
    assert second.greet(b"Ann") == 5
    with pytest.raises(LeaseError):
        protocol.greet(b"Ann")


def test_the_protocol_goes_on_to_use_its_transport_by_itself() -> None:
    clock = Clock()

    class Beating(Greeter):
        def connectionMade(self) -> None:
            self.beat = LoopingCall(self.greet, b"you")
            self.beat.clock = clock
            self.beat.start(1.0, now=False)

    behind, protocol, traced = leased(Beating)
    protocol.greet(b"Ann")
    traced.settled("here")
    clock.advance(1)
    assert behind.transport.value() == b"hello Ann!hello you!"
    behind.protocol.beat.stop()


def test_the_protocol_never_meets_what_stands_for_it() -> None:
    behind, protocol, traced = leased()
    protocol.say(protocol)
    assert behind.protocol.listener is behind.protocol
    protocol.say(listener=protocol.transport)
    assert behind.protocol.listener is behind.transport
    saved = protocol.transport
    protocol.transport = saved
    assert behind.protocol.transport is behind.transport
    other = leased()[1]
    traced.settled("here")
    with pytest.raises(LeaseError):
        other.say(protocol)


def test_a_protocol_without_a_transport_has_none() -> None:
    behind, protocol, _ = leased()
    behind.protocol.transport = None
    assert protocol.transport is None


# Protocols of others


class Sum(amp.Command):
    arguments = ((b"a", amp.Integer()), (b"b", amp.Integer()))
    response = ((b"total", amp.Integer()),)


class Summing(amp.AMP):
    @Sum.responder
    def sum(self, a: int, b: int) -> dict[str, int]:
        return {"total": a + b}


def test_amp_works_through_it() -> None:
    behind, protocol, traced = leased(amp.AMP)
    server = Behind(Summing())
    asked = protocol.callRemote(Sum, a=2, b=3)
    server.protocol.dataReceived(behind.transport.value())
    behind.protocol.dataReceived(server.transport.value())
    assert result_of(asked) == {"total": 5}
    assert isinstance(protocol, amp.AMP)
    assert IProtocol.providedBy(protocol)
    assert amp.IBoxSender.providedBy(protocol)
    call = protocol.callRemote
    traced.settled("here")
    with pytest.raises(LeaseError):
        call(Sum, a=2, b=3)


def test_txredisapi_works_through_it() -> None:
    behind, protocol, traced = leased(redis.RedisProtocol)
    asked = protocol.get("k")
    assert behind.transport.value() == b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    behind.protocol.dataReceived(b"$1\r\nv\r\n")
    assert result_of(asked) == "v"
    assert isinstance(protocol, redis.BaseRedisProtocol)
    assert IProtocol.providedBy(protocol)
    traced.settled("here")
    with pytest.raises(LeaseError):
        protocol.get("k")


# A forked child


FORKED: dict[str, Callable[[Any], object]] = {
    each: use for each, use in USES.items() if each in list(USES)[:7]
}


@pytest.mark.parametrize("use", FORKED.values(), ids=FORKED)
def test_a_forked_child_is_told_why_it_has_no_protocol(use: Callable[[Any], object]) -> None:
    with pytest.raises(LeaseError, match=r"^made in process 5$"):
        use(Forked("made in process 5"))


def test_what_a_forked_child_gets_can_be_printed() -> None:
    assert repr(Forked("made in process 5")) == "<Forked: made in process 5>"


def test_a_traced_lease_gives_a_forked_child_no_protocol_either() -> None:
    behind, _, traced = leased()
    behind.protocol = Forked("made in process 5")
    with pytest.raises(LeaseError, match=r"^made in process 5$"):
        _ = traced.protocol.greeting
    assert isinstance(traced.protocol, Guarded)
