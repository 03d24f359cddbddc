"""A request that nobody is before connects before it waits; else it is as any other."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Closed, ConnectFailed, Lease, Policy, Pool
from kolus.events import Connected, Leased
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of


class Ticking(Clock):
    """Goes on with each look, as a real one does."""

    def seconds(self) -> float:
        self.rightNow += 0.000_001
        return self.rightNow


class Rig:
    """A group of one backend, where something happens while a protocol is made."""

    def __init__(self, clock: Clock | None = None, **policy: Any) -> None:
        self.clock = Clock() if clock is None else clock
        self.fake = FakeBackend(self.clock)
        self.meanwhile: Any = None
        self.events: list[Any] = []
        self.pool: Pool[Any] = Pool(
            self.clock, self._build, policy=Policy(**policy), observers=[self.events.append]
        )
        self.group = self.pool.group([Backend(self.fake, name="a")])
        result_of(self.ask()).finished()  # this has made the manager
        self.turn()
        self.events.clear()

    def _build(self) -> Protocol:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return Protocol()

    def ask(self, **how: Any) -> Deferred[Lease[Any]]:
        return self.group.connect("us", **how)

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


def test_who_asks_while_its_connection_is_made_comes_after_it() -> None:
    rig = Rig(limit=1)
    asked: list[Any] = []
    rig.meanwhile = lambda: asked.append(rig.ask())
    first = result_of(rig.ask())
    (second,) = asked
    assert not second.called
    first.release()
    result_of(second).release()
    assert rig.fake.attempts == 2


def test_who_asks_while_its_connection_is_made_gets_one_too() -> None:
    rig = Rig(limit=2)
    asked: list[Any] = []
    rig.meanwhile = lambda: asked.append(rig.ask())
    first = result_of(rig.ask())
    (second,) = asked
    rig.turn()
    assert result_of(second).protocol is not first.protocol
    assert rig.fake.attempts == 3


def test_if_the_pool_is_closed_while_its_connection_is_made_it_fails_and_nothing_is_left() -> None:
    rig = Rig()
    closing: list[Any] = []
    rig.meanwhile = lambda: closing.append(rig.pool.close(0))
    failure_of(Closed, rig.ask())
    rig.turn()
    result_of(closing[0])
    assert not rig.fake.connections


def test_if_the_protocol_cannot_be_made_the_request_fails_at_once() -> None:
    rig = Rig()

    def fail() -> None:
        raise ValueError("no protocol")

    rig.meanwhile = fail
    error = failure_of(ConnectFailed, rig.ask())
    assert "no protocol" in str(error)
    assert rig.fake.attempts == 2


@pytest.mark.parametrize("backoff", ["on", "off"])
def test_a_refused_request_has_made_one_attempt(backoff: str) -> None:
    rig = Rig(**({} if backoff == "on" else {"backoff": None}))
    rig.fake.refuse(always=True)
    failure_of(ConnectFailed, rig.ask())
    assert rig.fake.attempts == 2


def test_an_attempt_that_takes_long_has_another_beside_it_every_1_5_s() -> None:
    rig = Rig(Ticking())
    rig.fake.never_answer(always=True)
    asked = rig.ask()
    for _ in range(14):
        rig.clock.advance(0.1)
    assert rig.fake.attempts == 2
    for _ in range(35):
        rig.clock.advance(0.1)
    assert rig.fake.attempts == 5
    asked.addErrback(lambda _: None)
    asked.cancel()


def test_observers_hear_that_it_had_to_wait_for_its_connection() -> None:
    rig = Rig()
    result_of(rig.ask())
    connected, leased = rig.events
    assert isinstance(connected, Connected)
    assert isinstance(leased, Leased)
    assert leased.queued
    assert not leased.reused
