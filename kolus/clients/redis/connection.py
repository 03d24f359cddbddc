"""The connections of txredisapi, as the pool needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ConnectionError as ConnectionEnded
from txredisapi import RedisProtocol, SubscriberProtocol

from kolus.clients.calls import WrongReply
from kolus.clients.redis.commands import binds, word

__all__ = ["OwnConnection", "SharedConnection", "Subscriber"]

_log = Logger()
_TYPES = frozenset("+-:$*")
_SHOWN = 60


class _NoFactory:
    """What txredisapi expects of a factory, which has a pool of its own."""

    class connectionQueue:
        put = staticmethod(lambda _: None)

    @staticmethod
    def stopTrying() -> None:
        """Called before a connection is told to end."""


class Connection(RedisProtocol):  # type: ignore[misc]
    """A connection that knows which database was chosen on it."""

    factory = _NoFactory
    database: int | None = 0
    _is_wrong = False

    def _build_command(self, *words: Any, **_: Any) -> bytes:
        """As txredisapi's, in half the time."""
        told = [b"*%d\r\n" % len(words)]
        for each in words:
            value = self._encode_value(each)
            told.append(b"$%d\r\n%b\r\n" % (len(value), value))
        return b"".join(told)

    def lineReceived(self, line: str) -> None:
        """As txredisapi's, which takes no notice of what is no reply."""
        if self._is_wrong:
            return
        if not line or line[0] in _TYPES:
            super().lineReceived(line)
            return
        shown = line[:_SHOWN] + ("..." if len(line) > _SHOWN else "")
        self._end()
        self.replyReceived(WrongReply(f"what the server sent is not of Redis: {shown!r}"))

    def replyReceived(self, reply: Any) -> None:
        """As txredisapi's, which keeps a reply that nobody asked for, as that to the next
        command."""
        if self.replyQueue.waiting:
            super().replyReceived(reply)
        else:
            self._end()

    def _end(self) -> None:
        self._is_wrong = True  # what follows may be anybody's
        self.transport.abortConnection()

    def select(self, index: int) -> Any:
        self.database = None

        def chosen(reply: Any) -> Any:
            self.database = index
            return reply

        return super().select(index).addCallback(chosen)

    # txredisapi takes one name as bytes for a list of numbers.

    def blpop(self, keys: Any, timeout: Any = 0) -> Any:
        return super().blpop(_listed(keys), timeout)

    def brpop(self, keys: Any, timeout: Any = 0) -> Any:
        return super().brpop(_listed(keys), timeout)

    def hmget(self, key: Any, fields: Any) -> Any:
        return super().hmget(key, _listed(fields))

    def watch(self, keys: Any) -> Any:
        return super().watch(_listed(keys))


class SharedConnection(Connection):
    """A connection on which there are no transactions and no pipelines of txredisapi.

    @ivar sends_at_once: whether a command that is alone is sent at once, instead of in the next
        turn of the reactor. The first ones are not: the reactor may be about to write, and if that
        fails, it does not read what the server said before it closed the connection.
    """

    sends_at_once = False

    def execute_command(
        self, *words: Any, post_proc: Callable[[Any], Any] | None = None, **_: Any
    ) -> Any:
        """As txredisapi's, with one Deferred instead of two."""
        if not self.connected:
            raise ConnectionEnded("Not connected")
        transport = self.transport
        is_alone = not self.replyQueue.waiting
        transport.write(self._build_command(*words))
        answer = self.replyQueue.get().addCallback(self.handle_reply)
        if post_proc is not None:
            answer.addCallback(post_proc)
        if is_alone and self.sends_at_once and not transport.disconnecting:
            transport.doWrite()  # an error shows up again when the reactor writes or reads
        return answer


class OwnConnection(Connection):
    """A connection for one lessee, who may change it.

    @ivar is_bound: whether a command was sent that changes it, and that no method of txredisapi
        keeps account of.
    """

    is_bound = False

    def execute_command(self, *words: Any, **options: Any) -> Any:
        if binds(words):
            self._note(word(words))
        return super().execute_command(*words, **options)

    def _note(self, command: str) -> None:
        if command == "SELECT":
            self.database = None
        elif command in ("MULTI", "WATCH"):
            self.is_bound = self.is_bound or not self.pendingTransaction
        elif command not in ("DISCARD", "EXEC", "UNWATCH"):
            self.is_bound = True


class Subscriber(SubscriberProtocol):  # type: ignore[misc]
    """A connection whose messages reach a function."""

    factory = _NoFactory
    database: int | None = 0
    is_bound = False
    received: Callable[..., object] = staticmethod(lambda *_: None)
    when_lost: Callable[[], Deferred[BaseException]]

    def subscribe(self, channels: Any) -> Any:
        return super().subscribe(_listed(channels))

    def unsubscribe(self, channels: Any) -> Any:
        return super().unsubscribe(_listed(channels))

    def psubscribe(self, patterns: Any) -> Any:
        return super().psubscribe(_listed(patterns))

    def punsubscribe(self, patterns: Any) -> Any:
        return super().punsubscribe(_listed(patterns))

    def messageReceived(self, pattern: Any, channel: Any, message: Any) -> None:
        told: Deferred[Any] = maybeDeferred(self.received, pattern, channel, message)
        told.addErrback(_log_failure)


def _listed(names: Any) -> Any:
    return [names] if isinstance(names, bytes) else names


def _log_failure(failure: Failure) -> None:
    _log.failure("what was called with a message failed", failure)
