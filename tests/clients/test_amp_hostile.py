"""AMP servers that answer wrongly, late or not at all, on a clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import Clock
from twisted.protocols.amp import (
    AmpBox,
    Command,
    Integer,
    NoEmptyBoxes,
    RemoteAmpError,
    String,
    TooLong,
    parseString,
)

from kolus import Backend, Policy
from kolus.clients.amp import AMPPool, WrongReply
from kolus.testing import FakeBackend, NotFired, result_of
from kolus.testing.results import failure_of


class Sum(Command):
    arguments: ClassVar = [(b"a", Integer()), (b"b", Integer())]
    response: ClassVar = [(b"total", Integer())]
    errors: ClassVar = {ZeroDivisionError: b"ZERO"}


class Say(Command):
    arguments: ClassVar = [(b"words", String())]


class Desk:
    """A pool of one connection to a server that says what the test says."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.server = FakeBackend(self.clock)
        policy = Policy(**{"limit": 1, "slots": 10} | options)
        self.calls = AMPPool(self.clock, [Backend(self.server)], policy=policy)

    def ask(self, a: int = 1, b: int = 2) -> Deferred[Any]:
        asked = self.calls.callRemote(Sum, a=a, b=b)
        self.turn()
        return asked

    def say(self, data: bytes) -> None:
        self.server.accepted[-1].speak(data)
        self.turn()

    def answer(self, tag: bytes, total: int) -> None:
        self.say(AmpBox({b"_answer": tag, b"total": b"%d" % total}).serialize())

    def tags(self) -> list[bytes]:
        """Of the calls that the server got on its newest connection."""
        return [box[b"_ask"] for box in parseString(self.server.accepted[-1].received)]

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(4):
            self.clock.advance(0)
        self.clock.advance(seconds)

    def is_empty(self) -> bool:
        return all(status.leased == status.waiting == 0 for status in self.calls.status())

    def serves(self) -> bool:
        """Whether the next call is answered, on a new connection."""
        asked = self.ask(3, 4)
        self.answer(self.tags()[-1], 7)
        return bool(result_of(asked) == {"total": 7})


def box(**values: bytes) -> bytes:
    return bytes(AmpBox({key.encode(): value for key, value in values.items()}).serialize())


WRONG = {
    "an answer to nobody": box(_answer=b"77", total=b"3"),
    "an error to nobody": box(_error=b"77", _error_code=b"ZERO", _error_description=b""),
    "a box of nothing": box(other=b"x"),
    "an empty box": b"\0\0",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a long key": b"\xff\xff" + b"x" * 70_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_answer_is_an_error_that_says_so_and_ends_the_connection(
    what: str, logged_failures: Any
) -> None:
    desk = Desk()
    one, two = desk.ask(), desk.ask()
    desk.say(WRONG[what])
    for asked in (one, two):
        assert "AMP" in str(failure_of(WrongReply, asked))
    assert desk.is_empty()
    assert desk.serves()
    assert len(desk.server.accepted) == 2
    logged_failures.flush(KeyError)
    logged_failures.flush(NoEmptyBoxes)


@pytest.mark.parametrize(
    "answer", [{}, {"total": b"three"}, {"total": b""}, {"other": b"3"}, {"total": b"\xff\xfe"}]
)
def test_an_answer_without_the_values_of_its_command_is_the_error_of_its_call_alone(
    answer: dict[str, bytes],
) -> None:
    desk = Desk()
    one, two = desk.ask(), desk.ask()
    first, second = desk.tags()
    desk.say(box(_answer=first, **answer))
    assert "Sum" in str(failure_of(WrongReply, one))
    desk.answer(second, 3)
    assert result_of(two) == {"total": 3}
    assert len(desk.server.connections) == 1
    assert desk.is_empty()


def test_answers_in_any_order_and_in_pieces_reach_those_who_asked() -> None:
    desk = Desk()
    asked = [desk.ask(number) for number in range(10)]
    whole = b"".join(
        box(_answer=tag, total=b"%d" % number) for number, tag in enumerate(desk.tags())
    )
    boxes = [whole[at : at + 3] for at in range(0, len(whole), 3)]
    for piece in boxes:
        desk.say(piece)
    assert [result_of(each)["total"] for each in asked] == list(range(10))


def test_an_answer_that_comes_twice_costs_the_connection_alone(logged_failures: Any) -> None:
    desk = Desk()
    asked = desk.ask()
    desk.answer(desk.tags()[0], 3)
    desk.say(box(_answer=b"1", total=b"4"))
    assert result_of(asked) == {"total": 3}
    assert desk.serves()
    logged_failures.flush(KeyError)


def test_an_error_that_the_command_does_not_know_is_amps_own() -> None:
    desk = Desk()
    asked = desk.ask()
    desk.say(box(_error=desk.tags()[0], _error_code=b"OTHER", _error_description=b"no"))
    failure_of(RemoteAmpError, asked)
    assert desk.is_empty()
    assert len(desk.server.connections) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_server_that_closes_in_the_middle_of_an_answer_fails_all_its_calls(how: str) -> None:
    desk = Desk()
    asked = [desk.ask() for _ in range(3)]
    desk.say(box(_answer=desk.tags()[0], total=b"3")[:-4])
    getattr(desk.server.accepted[0], how)()
    desk.turn()
    for each in asked:
        failure_of(ConnectionClosed, each)
    assert desk.is_empty()
    assert desk.serves()


def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody() -> None:
    desk = Desk()
    one, two = desk.ask(), desk.ask()
    first, second = desk.tags()
    one.cancel()
    failure_of(CancelledError, one)
    desk.answer(first, 1)
    desk.answer(second, 2)
    assert result_of(two) == {"total": 2}
    assert desk.is_empty()
    assert len(desk.server.connections) == 1


def test_half_an_answer_and_then_silence_holds_its_slot_until_the_call_is_cancelled() -> None:
    desk = Desk(slots=1)
    asked = desk.ask()
    desk.say(box(_answer=desk.tags()[0], total=b"3")[:-4])
    desk.turn(3600.0)
    with pytest.raises(NotFired):
        result_of(asked)
    asked.cancel()
    failure_of(CancelledError, asked)
    assert desk.is_empty()


def test_arguments_that_cannot_be_sent_cost_no_connection() -> None:
    desk = Desk()
    wrong: list[Callable[[], Deferred[Any]]] = [
        lambda: desk.calls.callRemote(Sum, a=1),
        lambda: desk.calls.callRemote(Sum, a="x", b=2),
        lambda: desk.calls.callRemote(Sum, a=1, b=2, c=3),
    ]
    for ask in wrong:
        failed = ask()
        desk.turn()
        assert not isinstance(failure_of(Exception, failed), WrongReply)
    assert desk.is_empty()
    asked = desk.ask(3, 4)
    desk.answer(desk.tags()[-1], 7)
    assert result_of(asked) == {"total": 7}
    assert len(desk.server.accepted) == 1


def test_an_argument_that_is_too_long_is_told_with_its_length_and_costs_no_connection() -> None:
    desk = Desk()
    failed = desk.calls.callRemote(Say, words=b"x" * 65536)
    desk.turn()
    told = "the value of b'words' has 65536 bytes; AMP takes 65535 at most"
    assert str(failure_of(TooLong, failed)) == told
    asked = desk.ask(3, 4)
    desk.answer(desk.tags()[-1], 7)
    assert result_of(asked) == {"total": 7}
    assert len(desk.server.accepted) == 1


def moody(chance: random.Random, data: bytes) -> bytes:
    """What answers these calls, mostly, in any order."""
    boxes = []
    for asked in parseString(data):
        total = b"%d" % (int(asked[b"a"]) + int(asked[b"b"]))
        right = box(_answer=asked[b"_ask"], total=total)
        wrong = chance.choice([b"", right[:-5], right + right, box(other=b"x"), b"HTTP/1.1"])
        boxes.append(right if chance.random() < 0.9 else wrong)
    chance.shuffle(boxes)
    return b"".join(boxes)


@pytest.mark.parametrize("seed", range(20))
def test_no_answer_is_anothers_and_no_slot_is_lost_whatever_comes(
    seed: int, logged_failures: Any
) -> None:
    chance, desk = random.Random(seed), Desk()
    desk.server = FakeBackend(desk.clock, respond=lambda data: moody(chance, data) or None)
    policy = Policy(limit=3, slots=4, acquire_timeout=50.0, fail_fast=False)
    desk.calls = AMPPool(desk.clock, [Backend(desk.server)], policy=policy)
    calls = []
    for number in range(300):
        asked = desk.calls.callRemote(Sum, a=number, b=1)
        calls.append(asked.addTimeout(20.0, desk.clock))  # type: ignore[arg-type]
        if chance.random() < 0.3:
            desk.turn(0.05 * chance.random())
        if chance.random() < 0.1:
            chance.choice(calls).cancel()
        if chance.random() < 0.05 and desk.server.connections:
            chance.choice(desk.server.connections).reset()
    for _ in range(300):
        desk.turn(1.0)
    assert desk.is_empty()
    right = 0
    for number, asked in enumerate(calls):
        assert asked.called
        asked.addErrback(lambda _: None)
        answer = result_of(asked)
        assert answer in (None, {"total": number + 1})
        right += answer is not None
    assert right > 50
    logged_failures.flush(KeyError)
    logged_failures.flush(NoEmptyBoxes)
