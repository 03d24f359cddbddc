"""Servers that are not Redis, on a clock."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import Clock
from txredisapi import RedisError

from kolus import Backend, ConnectFailed, Policy
from kolus.clients.redis import RedisPool, WrongReply
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of

OTHERS = {
    "memcached": b"ERROR\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a long line": b"x" * 5000 + b"\r\n",
}


class Desk:
    """A pool of one connection to a server that answers as the test says."""

    def __init__(self, answer: bytes) -> None:
        self.clock = Clock()
        self.answer = answer
        self.server = FakeBackend(self.clock, respond=lambda _: self.answer or None)
        policy = Policy(limit=1, slots=10)
        self.redis = RedisPool(self.clock, Backend(self.server), policy=policy)

    def ask(self, name: str, *arguments: Any) -> Deferred[Any]:
        asked: Deferred[Any] = getattr(self.redis, name)(*arguments)
        self.turn()
        return asked

    def turn(self) -> None:
        for _ in range(6):
            self.clock.advance(0)


@pytest.mark.parametrize("what", OTHERS)
def test_a_server_that_is_not_redis_is_told_by_its_own_words(what: str) -> None:
    desk = Desk(OTHERS[what])
    error = failure_of(ConnectFailed, desk.ask("get", "key"))
    assert isinstance(error.__cause__, WrongReply)
    assert OTHERS[what][:20].decode().strip() in str(error)


def test_what_is_no_reply_is_the_error_of_its_call_and_ends_the_connection() -> None:
    desk = Desk(b"+PONG\r\n")
    desk.ask("ping")
    desk.answer = b""
    one, two = desk.ask("set", "key", "value"), desk.ask("incr", "key")
    desk.server.accepted[0].speak(b"what?\r\n:5\r\n")
    desk.turn()
    failure_of(WrongReply, one)
    with pytest.raises((ConnectionClosed, RedisError)):
        result_of(two)
    desk.answer = b"+PONG\r\n"
    assert result_of(desk.ask("ping")) == "PONG"
    assert len(desk.server.accepted) == 2
    assert all(status.leased == 0 for status in desk.redis.status())


@pytest.mark.parametrize("stray", [b"+OK\r\n", b":1\r\n", b"$5\r\nother\r\n", b"*1\r\n:1\r\n"])
def test_a_reply_that_nobody_asked_for_is_not_that_to_the_next_command(stray: bytes) -> None:
    desk = Desk(b"+PONG\r\n")
    desk.ask("ping")
    desk.answer = b":5\r\n" + stray
    assert result_of(desk.ask("incr", "key")) == 5
    desk.answer = b"+PONG\r\n"
    assert result_of(desk.ask("ping")) == "PONG"
    assert len(desk.server.accepted) == 2
