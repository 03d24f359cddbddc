"""What fails in the user's own code, and not at the backend, is told as that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from kolus import Backend, ConnectFailed, LeaseTimeout, Policy, Pool, protocol_factory
from kolus.events import Ejected, Event
from kolus.status import State
from kolus.testing import FakeBackend, NotFired, result_of
from kolus.testing.results import failure_of
from tests.rigs.pools import Half

HERE = r"test_mistakes\.py:\d+ in "


class Needs(Protocol):
    """Cannot be made without an argument."""

    def __init__(self, password: str) -> None:
        self.password = password


class Breaks(Protocol):
    """Raises when it is made."""

    def __init__(self) -> None:
        raise TypeError("a mistake")


class BreaksLater(Protocol):
    """Raises when it is connected."""

    def connectionMade(self) -> None:
        self.nothing()  # type: ignore[attr-defined]


def build() -> Any:
    raise KeyError("settings")


def wrong() -> Any:
    return "a protocol"


class Fragile(Factory):
    """A factory of Twisted's that raises."""

    noisy = False

    def buildProtocol(self, addr: object) -> Any:
        raise RuntimeError("not today")


MISTAKES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "missing argument": (Needs, "could not be made, at .*" + HERE + "Needs.__init__", "TypeError"),
    "raises in __init__": (Breaks, "could not be made, at .*" + HERE + "Breaks.__init__", "a mis"),
    "a function raises": (build, "could not be made, at .*" + HERE + "build", "KeyError"),
    "no protocol": (wrong, "could not be made, at .*" + HERE + "wrong", "not a protocol"),
    "a factory raises": (
        protocol_factory(Fragile()),
        "could not be made, at .*" + HERE + "Fragile.buildProtocol",
        "not today",
    ),
}


class Rig:
    """A pool whose protocol is a mistake, or not."""

    def __init__(self, protocol: Callable[[], Any], count: int = 1, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, "abcdefgh", strict=False)
        ]
        self.protocol = protocol
        self.events: list[Event] = []
        self.pool: Pool[Any] = Pool(
            *(self.clock, lambda: self.protocol()),
            policy=Policy(**policy),
            observers=[self.events.append],
            rng=Half(),
        )

    def ask(self, **how: Any) -> Deferred[Any]:
        return self.pool.connect("u", self.backends[0], **how)


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("slots", [None, 2])
def test_a_protocol_that_cannot_be_made_is_a_mistake_with_its_place(
    name: str, slots: int | None
) -> None:
    protocol, where, what = MISTAKES[name]
    clock = Clock()
    backend = Backend(FakeBackend(clock), name="b")
    pool: Pool[Any] = Pool(clock, protocol, policy=Policy(slots=slots))
    error = failure_of(ConnectFailed, pool.connect("u", backend))
    assert error.is_mistake
    assert error.retry_in == 0
    with pytest.raises(ConnectFailed, match=f"connected to b, but its protocol {where}: .*{what}"):
        raise error


@pytest.mark.parametrize("slots", [None, 1])
def test_one_protocol_for_two_connections_is_a_mistake(slots: int | None) -> None:
    protocols = [Protocol(), Protocol()]
    rig = Rig(lambda: protocols[0], slots=slots)
    lease = result_of(rig.ask())
    asked = rig.ask(timeout=1.0)
    rig.clock.advance(1.0)
    error = failure_of(LeaseTimeout, asked)
    assert "its protocol could not be made" in str(error)
    assert "connected already, make one for each connection" in str(error)
    lease.finished()
    rig.clock.advance(0)
    result_of(rig.ask()).release()  # it is free again


def test_what_the_pools_own_function_gives_has_to_be_an_endpoint() -> None:
    clock = Clock()
    given: list[Any] = [None, "tcp:a.test:80", Deferred(), FakeBackend(clock)]
    backend = Backend(FakeBackend(clock), name="b")
    pool: Pool[Any] = Pool(clock, Protocol, make_endpoint=lambda _, backend: given.pop(0))
    for kind in ("NoneType", "str", "Deferred"):
        with pytest.raises(TypeError, match=f"make_endpoint gave an object of type {kind}, not an"):
            pool.connect("u", backend)
    result_of(pool.connect("u", backend)).release()


def test_a_protocol_that_raises_as_it_is_connected_is_a_mistake_too(logged_failures: Any) -> None:
    rig = Rig(BreaksLater)
    error = failure_of(ConnectFailed, rig.ask())
    assert error.is_mistake
    where = f"raised in makeConnection, at .*{HERE}BreaksLater.connectionMade: AttributeError"
    with pytest.raises(ConnectFailed, match=where):
        raise error
    assert len(logged_failures.flush(AttributeError)) == 1


def test_what_the_network_raises_as_it_is_connected_is_no_mistake(logged_failures: Any) -> None:
    class Asks(Protocol):
        def connectionMade(self) -> None:
            raise OSError(107, "Transport endpoint is not connected")

    rig = Rig(Asks)
    error = failure_of(ConnectFailed, rig.ask())
    assert not error.is_mistake
    assert error.retry_in > 0
    assert len(logged_failures.flush(OSError)) == 1


def test_a_mistake_costs_no_back_off_and_ejects_nothing() -> None:
    rig = Rig(Breaks)
    for attempts in range(1, 21):
        assert failure_of(ConnectFailed, rig.ask()).retry_in == 0
        assert rig.fakes[0].attempts == attempts
    assert not [each for each in rig.events if isinstance(each, Ejected)]
    assert rig.pool.status([rig.backends[0]])[0].state is State.OPEN
    rig.protocol = Protocol
    result_of(rig.ask()).release()


@pytest.mark.parametrize("policy", [{}, {"fail_fast": False}, {"backoff": None}, {"min_idle": 2}])
def test_each_of_those_who_wait_fails_with_it_and_no_attempt_is_repeated_without_end(
    policy: dict[str, Any],
) -> None:
    rig = Rig(Breaks, **policy)
    rig.fakes[0].accept(after=0.1, always=True)
    asked = [rig.ask() for _ in range(10)]
    rig.clock.pump([0.1] * 20)
    for each in asked:
        assert failure_of(ConnectFailed, each).is_mistake
    attempts = rig.fakes[0].attempts
    assert attempts <= 30
    rig.clock.pump([0.1] * 100)
    assert rig.fakes[0].attempts == attempts


def test_a_mistake_does_not_fail_those_for_whom_a_lease_may_come_home() -> None:
    rig = Rig(Protocol, limit=2)
    held = result_of(rig.ask())
    rig.protocol = Breaks
    asked = rig.ask()
    with pytest.raises(NotFired):
        result_of(asked)
    held.release()
    result_of(asked).release()


@pytest.mark.parametrize("way", ["group", "select"])
def test_a_group_does_not_try_a_mistake_at_every_backend(way: str) -> None:
    rig = Rig(Breaks, count=8)
    group = rig.pool.group(rig.backends)
    asked = group.connect("u") if way == "group" else rig.pool.select("u", rig.backends)
    error = failure_of(ConnectFailed, asked)
    assert error.is_mistake
    assert sum(each.attempts for each in rig.fakes) == 1


def test_after_a_mistake_the_backend_is_not_said_to_be_back() -> None:
    rig = Rig(Breaks)
    failure_of(ConnectFailed, rig.ask())
    rig.protocol = Protocol
    rig.clock.advance(5)
    result_of(rig.ask()).release()
    assert not [each for each in rig.events if type(each).__name__ == "Recovered"]


# What fails from when it is connected


def test_a_prepare_that_fails_says_that_it_connected() -> None:
    def prepare(protocol: object) -> None:
        raise ValueError("the password is wrong")

    rig = Rig(Protocol, prepare=prepare)
    error = failure_of(ConnectFailed, rig.ask())
    assert str(error).startswith("connected to a, but prepare failed: ValueError: the password is")
    assert (error.but, error.is_mistake) == ("prepare failed", False)
    assert error.retry_in > 0


@pytest.mark.parametrize("way", ["group", "select"])
def test_a_prepare_that_fails_in_a_group_says_that_it_connected(way: str) -> None:
    def prepare(protocol: object) -> None:
        raise ValueError("the password is wrong")

    rig = Rig(Protocol, count=2, prepare=prepare)
    group = rig.pool.group(rig.backends)
    asked = group.connect("u") if way == "group" else rig.pool.select("u", rig.backends)
    with pytest.raises(ConnectFailed, match=r"connected to ., but prepare failed: .*; nor to "):
        result_of(asked)


def test_a_connect_that_fails_after_a_prepare_that_failed_is_told_as_it_is() -> None:
    rig = Rig(Protocol, prepare=lambda protocol: False)
    failure_of(ConnectFailed, rig.ask())
    rig.fakes[0].refuse(always=True)
    rig.clock.advance(30)
    with pytest.raises(ConnectFailed, match="cannot connect to a: ConnectionRefusedError"):
        result_of(rig.ask())


def test_a_timeout_says_that_it_connected_but_prepare_failed() -> None:
    rig = Rig(Protocol, prepare=lambda protocol: Deferred(), prepare_timeout=1.0, fail_fast=False)
    asked = rig.ask(timeout=1.5)
    rig.clock.pump([0.5] * 4)
    with pytest.raises(LeaseTimeout, match=r"it connected, but prepare failed: .*longer than 1 s"):
        result_of(asked)


@pytest.mark.parametrize("way", ["connect", "group"])
def test_a_timeout_names_the_check_that_failed_while_it_waited(way: str) -> None:
    def check(protocol: object) -> None:
        raise ValueError("no pong")

    rig = Rig(Protocol, limit=1, check=check, check_after=1.0)
    result_of(rig.ask()).release()
    rig.clock.advance(2)
    rig.fakes[0].never_answer(always=True)
    group = rig.pool.group(rig.backends)
    asked = rig.ask(timeout=3.0) if way == "connect" else group.connect("u", timeout=3.0)
    rig.clock.pump([0.5] * 6)
    error = failure_of(LeaseTimeout, asked)
    assert "the last check failed: ValueError: no pong" in str(error)
    assert (error.hook, str(error.hook_error)) == ("check", "no pong")
    later = rig.ask(timeout=1.0)
    rig.clock.pump([0.5] * 2)
    assert failure_of(LeaseTimeout, later).hook is None


def test_a_timeout_names_a_reset_that_failed_while_it_waited() -> None:
    rig = Rig(Protocol, limit=1, reset=lambda protocol: False)
    held = result_of(rig.ask())
    asked = rig.ask(timeout=1.0)
    rig.fakes[0].never_answer(always=True)
    held.release()
    rig.clock.pump([0.5] * 2)
    with pytest.raises(LeaseTimeout, match=r"the last reset failed: .*returned False"):
        result_of(asked)


def test_a_timeout_is_pythons_own_too() -> None:
    rig = Rig(Protocol, limit=1)
    held = result_of(rig.ask())
    asked = rig.ask(timeout=1.0)
    rig.clock.advance(1)
    with pytest.raises(TimeoutError, match=r"no connection to a .* within 1 s"):
        result_of(asked)
    held.release()


@implementer(IStreamClientEndpoint)
class Endless:
    """An endpoint that forgets to return its Deferred."""

    def connect(self, protocolFactory: object) -> Any:
        return None

    def __repr__(self) -> str:
        return "<Endless>"


def test_an_endpoint_that_gives_no_deferred_is_a_mistake_that_says_so() -> None:
    clock = Clock()
    pool: Pool[Protocol] = Pool(clock, Protocol)
    backend = Backend(Endless())
    error = failure_of(ConnectFailed, pool.connect("us", backend))
    assert error.is_mistake
    assert "<Endless> must give a Deferred when it is told to connect, not None" in str(error)
    assert pool.status([backend])[0].state is State.OPEN


@pytest.mark.parametrize("fresh", ["x", 1, None])
def test_what_is_neither_true_nor_false_is_refused(fresh: Any) -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    pool: Pool[Protocol] = Pool(clock, Protocol)
    backend = Backend(fake)
    group = pool.group([backend])
    result_of(pool.connect("us", backend)).release()
    calls: list[Callable[[], object]] = [
        lambda: pool.connect("us", backend, fresh=fresh),
        lambda: pool.try_connect("us", backend, fresh=fresh),
        lambda: pool.select("us", [backend], fresh=fresh),
        lambda: group.connect("us", fresh=fresh),
        lambda: group.try_connect("us", fresh=fresh),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=f"fresh must be True or False, not {fresh!r}"):
            call()
    (status,) = pool.status([backend])
    assert (status.idle, status.leased, status.waiting) == (1, 0, 0)
