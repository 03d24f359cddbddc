"""memcached servers that answer wrongly, late or not at all, on a clock."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import Clock
from twisted.protocols.memcache import ClientError, ServerError

from kolus import Backend, ConnectFailed, Policy
from kolus.clients.memcached import MemcachedPool, WrongReply
from kolus.testing import FakeBackend, NotFired, result_of
from kolus.testing.results import failure_of


class Desk:
    """A pool of one connection to a server that says its version, and else what the test says."""

    def __init__(self, version: bytes = b"VERSION 1.6\r\n", **options: Any) -> None:
        self.clock = Clock()
        self.version = version
        self.server = FakeBackend(self.clock, respond=self._respond)
        policy = Policy(**{"limit": 1, "slots": 10} | options)
        self.cache = MemcachedPool(self.clock, [Backend(self.server)], policy=policy)
        self.asked = b""

    def _respond(self, data: bytes) -> bytes | None:
        self.asked += data
        return self.version * data.count(b"version\r\n") or None

    def ask(self, name: str, *arguments: Any) -> Deferred[Any]:
        asked: Deferred[Any] = getattr(self.cache, name)(*arguments)
        self.turn()
        return asked

    def say(self, data: bytes) -> None:
        self.server.accepted[-1].speak(data)
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(4):
            self.clock.advance(0)
        self.clock.advance(seconds)

    def is_empty(self) -> bool:
        """Whether no call has a slot, and none waits."""
        return all(status.leased == status.waiting == 0 for status in self.cache.status())


CALLS = {
    "get": (b"key",),
    "set": (b"key", b"value"),
    "delete": (b"key",),
    "increment": (b"key", 1),
    "checkAndSet": (b"key", b"value", b"7"),
}

WRONG = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "bytes": b"\xff\xfe\x00\r\n",
    "nothing": b"\r\n",
    "a name of a method": b"cmd_END\r\n",
    "a long line": b"x" * 20_000,
    "an error without a word": b"CLIENT_ERROR\r\n",
    "blanks": b"  END\r\n",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", WRONG)
def test_a_malformed_reply_is_an_error_that_quotes_it(call: str, what: str) -> None:
    desk = Desk()
    asked = desk.ask(call, *CALLS[call])
    desk.say(WRONG[what])
    assert "memcached answered" in str(failure_of(WrongReply, asked))
    desk.turn()
    assert desk.is_empty()
    again = desk.ask("set", b"key", b"value")
    desk.say(b"STORED\r\n")
    assert result_of(again) is True
    assert len(desk.server.accepted) == 2


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        ("get", b"STORED\r\n"),
        ("get", b"12\r\n"),
        ("get", b"VALUE other 0 1\r\nx\r\nEND\r\n"),
        ("get", b"VALUE key 0 -5\r\nx\r\nEND\r\n"),
        ("get", b"VALUE key 0 two\r\nxx\r\nEND\r\n"),
        ("get", b"VALUE key 0\r\nxx\r\nEND\r\n"),
        ("get", b"VALUE key 0 2\r\nlonger\r\nEND\r\n"),
        ("get", b"VALUE key 0 2\r\nab\r\nSTORED\r\n"),
        ("set", b"END\r\n"),
        ("set", b"5\r\n"),
        ("set", b"VALUE key 0 1\r\nx\r\nEND\r\n"),
        ("delete", b"STORED\r\n"),
        ("increment", b"VERSION 1\r\n"),
        ("increment", b"5 6\r\n"),
        ("increment", b"-5\r\n"),
    ],
)
def test_a_reply_to_another_command_is_nobodys_answer(call: str, reply: bytes) -> None:
    desk = Desk()
    asked = desk.ask(call, *CALLS[call])
    behind = desk.ask("set", b"other", b"value")
    desk.say(reply + b"STORED\r\n")
    failure_of(WrongReply, asked)
    failure_of(ConnectionClosed, behind)
    assert desk.is_empty()


def test_a_value_that_is_shorter_than_it_says_is_no_value() -> None:
    desk = Desk()
    first, second = desk.ask("get", b"one"), desk.ask("set", b"two", b"2")
    desk.say(b"VALUE one 0 10\r\nabc\r\nEND\r\nSTORED\r\n")
    failure_of(WrongReply, first)
    failure_of(ConnectionClosed, second)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_replies_in_pieces_are_put_together(size: int) -> None:
    desk = Desk()
    got, counted = desk.ask("get", b"key"), desk.ask("increment", b"count", 1)
    reply = b"VALUE key 5 13\r\nEND\r\nSTORED\r\n\r\nEND\r\n8  \r\n"
    for at in range(0, len(reply), size):
        desk.say(reply[at : at + size])
    assert result_of(got) == (5, b"END\r\nSTORED\r\n")
    assert result_of(counted) == 8


def test_a_reply_that_nobody_asked_for_costs_the_connection_alone() -> None:
    desk = Desk()
    desk.ask("set", b"key", b"value")
    desk.say(b"STORED\r\nSTORED\r\n")
    desk.turn()
    got = desk.ask("get", b"key")
    desk.say(b"END\r\n")
    assert result_of(got) == (0, None)
    assert len(desk.server.accepted) == 2


@pytest.mark.parametrize("half", [b"", b"VALUE key 0 100\r\nhalf", b"VALUE k", b"VALUE key 0 99\r"])
def test_half_a_reply_and_then_silence_ends_after_a_minute(half: bytes) -> None:
    desk = Desk()
    asked = desk.ask("set", b"key", b"value") if not half else desk.ask("get", b"key")
    desk.say(half) if half else None
    desk.turn(59.0)
    with pytest.raises(NotFired):
        result_of(asked)
    desk.turn(2.0)
    failure_of(TimeoutError, asked)
    desk.turn()
    assert desk.is_empty()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_server_that_closes_in_the_middle_of_a_reply_is_asked_once_more_for_a_get(
    how: str,
) -> None:
    desk = Desk()
    got, put = desk.ask("get", b"key"), desk.ask("set", b"key", b"value")
    desk.say(b"VALUE key 0 5\r\nva")
    getattr(desk.server.accepted[0], how)()
    desk.turn()
    failure_of(ConnectionClosed, put)
    desk.say(b"VALUE key 0 5\r\nvalue\r\nEND\r\n")
    assert result_of(got) == (0, b"value")
    assert desk.is_empty()


@pytest.mark.parametrize(
    ("reply", "error"),
    [(b"SERVER_ERROR full", ServerError), (b"CLIENT_ERROR bad", ClientError)],
)
def test_an_error_in_the_middle_is_that_of_its_call_alone(
    reply: bytes, error: type[Exception]
) -> None:
    desk = Desk()
    asked = [desk.ask("set", b"key", b"value") for _ in range(3)]
    desk.say(b"STORED\r\n" + reply + b"\r\nSTORED\r\n")
    assert result_of(asked[0]) is True
    failure_of(error, asked[1])
    assert result_of(asked[2]) is True
    assert len(desk.server.connections) == 1


def test_a_call_that_is_cancelled_leaves_its_reply_to_nobody() -> None:
    desk = Desk()
    one, two, three = (desk.ask("increment", b"key", 1) for _ in range(3))
    two.cancel()
    failure_of(CancelledError, two)
    desk.say(b"1\r\n2\r\n3\r\n")
    assert result_of(one) == 1
    assert result_of(three) == 3
    assert desk.is_empty()


def test_a_server_that_accepts_late_serves_those_who_still_wait() -> None:
    desk = Desk(acquire_timeout=3.0, fail_fast=False)
    desk.server.accept(after=1.0, always=True)
    left, stays = desk.ask("get", b"key"), desk.ask("get", b"key")
    left.cancel()
    failure_of(CancelledError, left)
    desk.turn(1.0)
    desk.turn()
    desk.say(b"END\r\n")
    assert result_of(stays) == (0, None)
    assert desk.asked.count(b"get key") == 1


def test_a_server_that_speaks_another_protocol_is_not_there() -> None:
    desk = Desk(version=b"220 smtp.example\r\n")
    asked = desk.ask("get", b"key")
    desk.turn(5.0)
    assert "220 smtp.example" in str(failure_of(ConnectFailed, asked).__cause__)


def moody(chance: random.Random, data: bytes) -> bytes:
    """What answers these calls, mostly."""
    answer = b""
    for line in data.splitlines():
        word, _, key = line.partition(b" ")
        value = b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(key), key)
        right = b"VERSION 1.6\r\n" if word == b"version" else value + b"END\r\n"
        at = chance.randrange(len(right))
        answer += chance.choices(
            [right, b"", right[:at], right + right, right[:at] + b"!" + right[at:], b"END\r\n"],
            [0.8, 0.04, 0.04, 0.04, 0.04, 0.04],
        )[0]
    return answer


@pytest.mark.parametrize("seed", range(20))
def test_no_value_is_anothers_and_no_slot_is_lost_whatever_comes(seed: int) -> None:
    chance = random.Random(seed)
    desk = Desk(limit=3, slots=4, acquire_timeout=50.0, fail_fast=False)
    desk.server = FakeBackend(desk.clock, respond=lambda data: moody(chance, data))
    desk.cache = MemcachedPool(desk.clock, [Backend(desk.server)], policy=desk.cache.pool.policy)
    calls: list[tuple[bytes, Deferred[Any]]] = []
    for number in range(300):
        calls.append((b"key%d" % number, desk.cache.get(b"key%d" % number)))
        if chance.random() < 0.3:
            desk.turn(0.05 * chance.random())
        if chance.random() < 0.1:
            chance.choice(calls)[1].cancel()
        if chance.random() < 0.05 and desk.server.connections:
            chance.choice(desk.server.connections).reset()
    for _ in range(300):
        desk.turn(1.0)
    assert desk.is_empty()
    answers = 0
    for key, asked in calls:
        assert asked.called
        asked.addErrback(lambda _: None)
        answer = result_of(asked)
        assert answer in (None, (0, None), (0, key))
        answers += answer == (0, key)
    assert answers > 50


def test_a_connection_that_ends_while_calls_wait_leaves_no_timer() -> None:
    desk = Desk()
    asked = [desk.ask("get", b"key"), desk.ask("set", b"key", b"value")]
    closed = desk.cache.close(0)
    desk.turn(1)
    for each in asked:
        failure_of(Exception, each)
    assert result_of(closed) is None
    assert desk.clock.getDelayedCalls() == []


def test_a_value_that_ends_wrongly_with_the_last_of_its_bytes_is_an_error() -> None:
    desk = Desk()
    asked = desk.ask("get", b"key")
    desk.say(b"VALUE key 0 5\r\nhello")
    desk.say(b"##")
    failure_of(WrongReply, asked)
    assert desk.is_empty()
