"""Sessions that are idle, half closed or old are ended, on a clock."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from kolus.tunnel.session_times import SessionTimes
from kolus.tunnel.settings import ListenerSettings


class Moving:
    """A session that a test moves bytes through."""

    sent = received = 0
    is_backends_turn = False

    def ask(self) -> None:
        self.sent += 1
        self.is_backends_turn = True

    def answer(self) -> None:
        self.received += 1
        self.is_backends_turn = False


class Rig:
    """Sessions with their times, and which were ended, when and why."""

    def __init__(self, **settings: Any) -> None:
        without = dict.fromkeys(("client_timeout", "backend_timeout"))
        self.clock = Clock()
        self.ended: list[tuple[Any, str, float]] = []
        self.times = SessionTimes(self.clock, ListenerSettings(**(without | settings)), self._end)

    def _end(self, session: Any, why: str) -> None:
        self.ended.append((session, why, self.clock.seconds()))
        self.times.ended(session)

    def begin(self) -> Moving:
        session = Moving()
        self.times.begun(session)
        return session

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    def whys(self) -> list[str]:
        return [why for _, why, _ in self.ended]


@pytest.mark.parametrize("silent_before", [0.0, 5.0])
def test_a_client_that_is_silent_is_ended_after_its_time(silent_before: float) -> None:
    rig = Rig(client_timeout=10.0)
    session = rig.begin()
    if silent_before:
        rig.wait(silent_before)
        session.ask()
        session.answer()
        rig.wait(1.0)
        session.answer()
    began = rig.clock.seconds()
    rig.wait(9.9)
    assert not rig.ended
    rig.wait(1.2)
    ((ended, why, at),) = rig.ended
    assert (ended, why) == (session, "client_timeout")
    assert at - began <= 11.1


def test_a_backend_that_owes_an_answer_is_ended_after_its_own_time() -> None:
    rig = Rig(client_timeout=100.0, backend_timeout=10.0)
    session = rig.begin()
    rig.wait(50.0)
    assert not rig.ended
    session.ask()
    rig.wait(9.9)
    assert not rig.ended
    rig.wait(1.2)
    assert rig.whys() == ["backend_timeout"]


def test_a_client_that_was_answered_has_the_time_of_clients() -> None:
    rig = Rig(client_timeout=100.0, backend_timeout=10.0)
    session = rig.begin()
    session.ask()
    rig.wait(2.0)
    session.answer()
    rig.wait(99.0)
    assert not rig.ended
    rig.wait(5.0)
    assert rig.whys() == ["client_timeout"]


@pytest.mark.parametrize(("client", "backend"), [(5.0, 20.0), (20.0, 5.0)])
def test_the_last_bytes_tell_whose_turn_it_is_however_soon_an_answer_follows(
    client: float, backend: float
) -> None:
    rig = Rig(client_timeout=client, backend_timeout=backend)
    answered, asked = rig.begin(), rig.begin()
    for session in (answered, asked):
        session.ask()
        session.answer()
    asked.ask()
    rig.wait(30.0)
    ends = {session: (why, at) for session, why, at in rig.ended}
    assert ends[answered][0] == "client_timeout"
    assert client <= ends[answered][1] <= client * 1.1 + 0.5
    assert ends[asked][0] == "backend_timeout"
    assert backend <= ends[asked][1] <= backend * 1.1 + 0.5


@pytest.mark.parametrize("name", ["sent", "received"])
def test_a_session_that_moves_bytes_is_not_idle(name: str) -> None:
    rig = Rig(client_timeout=2.0, backend_timeout=2.0)
    session = rig.begin()
    for _ in range(30):
        rig.wait(1.0)
        setattr(session, name, getattr(session, name) + 1)
    assert not rig.ended


def test_a_half_closed_session_that_is_silent_is_ended_after_its_time() -> None:
    rig = Rig(half_closed_timeout=10.0)
    session = rig.begin()
    rig.wait(100.0)
    rig.times.half_closed(session)
    rig.wait(9.9)
    assert not rig.ended
    rig.wait(0.4)
    assert rig.whys() == ["half_closed_timeout"]


def test_a_half_closed_session_that_moves_bytes_goes_on() -> None:
    rig = Rig(half_closed_timeout=10.0)
    session = rig.begin()
    rig.times.half_closed(session)
    for _ in range(10):
        rig.wait(9.0)
        session.answer()
    assert not rig.ended
    rig.wait(10.6)
    assert rig.whys() == ["half_closed_timeout"]


def test_a_session_is_ended_at_its_greatest_age_even_if_it_moves_bytes() -> None:
    rig = Rig(session_limit=20.0)
    session = rig.begin()
    for _ in range(199):
        rig.wait(0.1)
        session.ask()
    assert not rig.ended
    rig.wait(1.2)
    assert rig.whys() == ["session_limit"]


def test_without_limits_there_is_no_timer() -> None:
    rig = Rig(half_closed_timeout=None)
    session = rig.begin()
    rig.times.half_closed(session)
    assert rig.clock.getDelayedCalls() == []


def test_no_timer_goes_on_when_the_last_session_has_ended() -> None:
    rig = Rig(client_timeout=5.0)
    sessions = [rig.begin() for _ in range(3)]
    for each in sessions:
        rig.times.half_closed(each)
        rig.times.ended(each)
    rig.wait(1.0)
    assert rig.clock.getDelayedCalls() == []
    again = rig.begin()
    rig.wait(5.6)
    assert [each for each, _, _ in rig.ended] == [again]


def test_many_sessions_one_after_the_other_have_one_timer() -> None:
    rig = Rig(client_timeout=5.0)
    for _ in range(100):
        session = rig.begin()
        rig.times.half_closed(session)
        rig.times.ended(session)
    assert len(rig.clock.getDelayedCalls()) == 2
    rig.times.stop()
    assert rig.clock.getDelayedCalls() == []


def test_two_sessions_have_times_of_their_own() -> None:
    rig = Rig(client_timeout=10.0)
    first = rig.begin()
    rig.wait(5.0)
    second = rig.begin()
    rig.wait(6.0)
    assert [each for each, _, _ in rig.ended] == [first]
    rig.wait(5.0)
    assert [each for each, _, _ in rig.ended] == [first, second]


def test_other_times_apply_to_sessions_that_have_begun() -> None:
    rig = Rig()
    rig.begin()
    half = rig.begin()
    rig.times.half_closed(half)
    rig.wait(1.0)
    changed = ListenerSettings(client_timeout=3.0, half_closed_timeout=2.0)
    rig.times.change(changed)
    rig.wait(1.2)
    assert rig.whys() == ["half_closed_timeout"]
    rig.wait(1.2)
    assert rig.whys() == ["half_closed_timeout", "client_timeout"]
    assert not rig.clock.getDelayedCalls()


def test_without_sessions_other_times_start_no_timer() -> None:
    rig = Rig()
    rig.times.change(ListenerSettings(client_timeout=3.0))
    assert not rig.clock.getDelayedCalls()
