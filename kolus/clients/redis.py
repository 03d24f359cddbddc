"""Redis: commands share a few pipelined connections of txredisapi; what must be alone, is.

Needs C{pip install 'kolus[redis]'}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import methodcaller
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.backend import AnyBackend, Backend
from kolus.clients.block import Block
from kolus.clients.calls import WrongReply, call_again, run_call
from kolus.clients.client import Client, with_slots
from kolus.errors import KolusError
from kolus.events import Observer
from kolus.interfaces import IKolusManager
from kolus.lease import Lease
from kolus.manager import ConnectionManager, SharedManager
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.support import steady
from kolus.watching import Owner

try:
    from txredisapi import ConnectionError as ConnectionEnded
    from txredisapi import (
        InvalidData,
        RedisError,
        RedisProtocol,
        ResponseError,
        SubscriberProtocol,
        WatchError,
    )
except ImportError as error:
    raise ImportError(
        "kolus.clients.redis needs txredisapi; write: pip install 'kolus[redis]'"
    ) from error

__all__ = ["RedisPool", "WrongReply"]

_log = Logger()
_SHARED, _ALONE, _SUBSCRIBER = "shared", "alone", "subscriber"
_TYPES = frozenset("+-:$*")
_SHOWN = 60
_REFUSALS = (ResponseError, WatchError, InvalidData)

_BINDING = frozenset({"auth", "commit", "discard", "execute_pipeline", "quit", "select", "unwatch"})

_READING = frozenset(
    {
        *("bitcount", "dbsize", "exists", "get", "getbit", "hexists", "hget", "hgetall"),
        *("hkeys", "hlen", "hmget", "hscan", "hvals", "info", "keys", "lastsave", "lindex"),
        *("llen", "lrange", "mget", "pfcount", "ping", "randomkey", "role", "scan", "scard"),
        *("script_exists", "sdiff", "sinter", "sismember", "smembers", "srandmember"),
        *("sscan", "substr", "sunion", "time", "ttl", "type", "zcard", "zcount", "zrange"),
        *("zrangebyscore", "zrank", "zrevrange", "zrevrangebyscore", "zrevrank", "zscan"),
        "zscore",
    }
)
"""They change nothing, so it does no harm to send one twice."""


class RedisPool(Client):
    """A pool of connections to one Redis server: C{await redis.get("key")}.

    Each command of txredisapi is a method here. Many commands at a time share a connection. Those
    that wait in the server, such as C{blpop}, get a connection of their own, and so do
    C{connection}, for C{WATCH} and C{MULTI}, and C{subscriber}. All count under one limit.

    A command that only reads, such as C{get}, is sent once more on a fresh connection if its own
    ended before the reply came. Other commands are not: nobody knows whether they were executed.

    @ivar backend: the server.
    """

    def __init__(
        self,
        reactor: Any,
        backend: AnyBackend = "tcp:127.0.0.1:6379",
        *,
        policy: Policy | None = None,
        username: str | None = None,
        password: str | Callable[[], Any] | None = None,
        database: int = 0,
        charset: str | None = "utf-8",
        observers: Iterable[Observer] = (),
    ) -> None:
        """
        @param backend: where the server is.
        @param policy: all settings; its C{slots} is the number of commands that share a connection
            at a time. The default is C{Policy(slots=100)}.
        @param password: for AUTH; a function is asked at each connect, so that it may change. It
            may give a Deferred or a coroutine of it.
        @param database: for SELECT.
        @param charset: what replies are decoded with; C{None}: they are bytes.
        @raise ValueError: C{backend} is invalid, or C{policy} has no C{slots}.
        """
        policy = with_slots(policy)
        self._now = steady(reactor).seconds
        self._timeout = policy.acquire_timeout
        self._login = username, password
        self._database = database
        self._charset = charset
        self.backend = Backend.of(backend)
        shared = replace(
            policy,
            prepare=policy.prepare or self._prepare,
            check=policy.check or _ping,
        )
        self.pool: Pool[Any] = _Pool(reactor, shared, self._is_clean, charset, observers)

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        """A command: C{redis.set("key", "value")}.

        It fails with C{ResponseError} if the server refuses it, which costs no connection.
        """
        method = getattr(RedisProtocol, name, None)
        if name.startswith("_") or not name.islower() or not callable(method):
            raise AttributeError(f"txredisapi has no command {name!r}")
        waits = getattr(method, "_blocking", False)
        if name in _BINDING or (waits and not method._release_on_callback):
            raise AttributeError(
                f"{name} binds a connection; write: async with redis.connection() as connection: "
                f"await connection.{name}(...)"
            )
        ident, pool, backend = _ALONE if waits else _SHARED, self.pool, self.backend
        is_reading, now, timeout = name in _READING, self._now, self._timeout

        def command(*arguments: Any, **options: Any) -> Deferred[Any]:
            call = methodcaller(name, *arguments, **options)
            answer: Deferred[Any]
            try:
                lease = pool.try_connect(ident, backend)
            except KolusError:
                answer = fail()
            else:
                if lease is not None:  # it costs one Deferred fewer
                    answer = run_call(lease, call, _is_harmless)
                else:
                    asked = pool.connect(ident, backend)
                    answer = asked.addCallback(run_call, call, _is_harmless)
            if not is_reading:
                return answer

            def again(seconds: float | None) -> Deferred[Any]:
                asked = pool.connect(ident, backend, timeout=seconds, fresh=True)
                return asked.addCallback(run_call, call, _is_harmless)

            return call_again(answer, again, _is_lost, now, timeout)

        vars(self)[name] = command
        return command

    def connection(self, *, timeout: float | None = None, owner: Owner | None = None) -> Block:
        """A connection of one's own, for a transaction: C{async with redis.connection() as conn:}.

        After the block it is pooled again if no transaction and no command is under way on it, and
        its database is what it was; else it is closed.

        @param timeout: seconds until C{LeaseTimeout}; the policy's if C{None}.
        """
        return Block(partial(self.pool.connect, _ALONE, self.backend, timeout=timeout, owner=owner))

    def subscriber(
        self,
        received: Callable[[str | None, str, Any], object],
        *,
        timeout: float | None = None,
        owner: Owner | None = None,
    ) -> Block:
        """A connection for subscriptions: C{await subscriber.subscribe("news")} in the block.

        In the block C{await subscriber.when_lost()} waits until the connection ends: the
        subscriptions have ended with it.

        @param received: called with the pattern or C{None}, the channel, and each message. It may
            be a coroutine function; the next message does not wait for it. What it raises is
            logged.
        """
        ask = partial(self.pool.connect, _SUBSCRIBER, self.backend, timeout=timeout, owner=owner)
        return _Subscription(ask, received)

    async def _prepare(self, protocol: Any) -> None:
        username, password = self._login
        if password is not None:
            given = password() if callable(password) else password
            if hasattr(given, "__await__"):
                given = await given
            await protocol.auth(given, username)
        if self._database:
            await protocol.select(self._database)
        elif password is None:  # a server that is ending accepts, but does not answer
            with suppress(ResponseError):
                await protocol.ping()
        protocol.database = self._database

    def _is_clean(self, protocol: Any) -> bool:
        return not (
            protocol.inTransaction
            or protocol.pendingTransaction
            or protocol.pipelining
            or protocol.replyQueue.waiting
            or protocol.database != self._database
        )


def _is_harmless(error: BaseException) -> bool:
    """Whether the connection is in order: the server said no, or nothing was sent."""
    return not isinstance(error, RedisError) or isinstance(error, _REFUSALS)


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, ConnectionEnded)


async def _ping(protocol: Any) -> None:
    await protocol.ping()


class _Pool(Pool[Any]):
    """Has a manager for each way in which connections are used, under one limit."""

    def __init__(
        self,
        reactor: Any,
        policy: Policy,
        clean: Callable[[Any], bool],
        charset: str | None,
        observers: Iterable[Observer],
    ) -> None:
        super().__init__(reactor, RedisProtocol, policy=policy, observers=observers)
        alone = replace(policy, slots=None, clean=clean, min_idle=0)
        self._ways: dict[str, tuple[type[Any], Any, Policy]] = {
            _SHARED: (SharedManager, lambda: _Connection(charset), policy),
            _ALONE: (ConnectionManager, lambda: _Connection(charset), alone),
            _SUBSCRIBER: (ConnectionManager, lambda: _Subscriber(charset), alone),
        }

    def _make(self, backend: Backend, ident: Any) -> IKolusManager:
        kind, protocol, policy = self._ways[ident]
        return kind(  # type: ignore[no-any-return]
            self._reactor,
            protocol,
            backend,
            ident,
            policy,
            observers=self._observers,
            record=self._managers.records.of(backend, policy),
            rng=self._rng,
        )


class _Subscription(Block):
    """A connection that listens. It is closed at the end: nobody knows what else comes on it."""

    __slots__ = ("_received",)

    usage = "async with redis.subscriber(received) as subscriber:"

    def __init__(
        self, ask: Callable[[], Deferred[Lease[Any]]], received: Callable[..., object]
    ) -> None:
        super().__init__(ask)
        self._received = received

    async def __aenter__(self) -> Any:
        subscriber = await super().__aenter__()
        subscriber.received = self._received
        subscriber.when_lost = self._lease.when_lost
        return subscriber

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lease.held:
            self._lease.finished()


class _NoFactory:
    """What txredisapi expects of a factory: a queue to put itself into after a transaction."""

    class connectionQueue:
        put = staticmethod(lambda _: None)


class _Connection(RedisProtocol):  # type: ignore[misc]
    """A connection that knows which database was chosen on it."""

    factory = _NoFactory
    database: int | None = 0
    _is_wrong = False

    def _build_command(self, *words: Any, **_: Any) -> bytes:
        """As txredisapi's, in half the time."""
        told = [b"*%d\r\n" % len(words)]
        for word in words:
            value = self._encode_value(word)
            told.append(b"$%d\r\n%b\r\n" % (len(value), value))
        return b"".join(told)

    def lineReceived(self, line: str) -> None:
        """As txredisapi's, which takes no notice of what is no reply."""
        if self._is_wrong:
            return
        if line and line[0] not in _TYPES:
            self._is_wrong = True  # what follows may be anybody's
            shown = line[:_SHOWN] + ("..." if len(line) > _SHOWN else "")
            self.replyReceived(WrongReply(f"what the server sent is not of Redis: {shown!r}"))
            self.transport.abortConnection()
            return
        super().lineReceived(line)

    def select(self, index: int) -> Any:
        self.database = None

        def chosen(reply: Any) -> Any:
            self.database = index
            return reply

        return super().select(index).addCallback(chosen)


class _Subscriber(SubscriberProtocol):  # type: ignore[misc]
    factory = _NoFactory
    database: int | None = 0
    received: Callable[..., object] = staticmethod(lambda *_: None)
    when_lost: Callable[[], Deferred[BaseException]]

    def messageReceived(self, pattern: Any, channel: Any, message: Any) -> None:
        told: Deferred[Any] = maybeDeferred(self.received, pattern, channel, message)
        told.addErrback(_log_failure)


def _log_failure(failure: Failure) -> None:
    _log.failure("what was called with a message failed", failure)
