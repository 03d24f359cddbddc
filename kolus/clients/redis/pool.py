"""C{RedisPool}: a pool of connections to one Redis server."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from operator import methodcaller
from types import TracebackType
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import CancelledError, Deferred, fail
from txredisapi import ConnectionError as ConnectionEnded
from txredisapi import (
    InvalidData,
    RedisError,
    RedisProtocol,
    ResponseError,
    SubscriberProtocol,
    WatchError,
)

from kolus.backend import AnyBackend, Backend
from kolus.clients.block import Block
from kolus.clients.calls import call_again, run_call
from kolus.clients.client import Client, with_slots
from kolus.clients.password import Password, ask_password, check_password
from kolus.clients.redis.commands import BINDING, READING, binds, waits, word
from kolus.clients.redis.connection import OwnConnection, SharedConnection, Subscriber
from kolus.errors import KolusError, shown
from kolus.events import Observer
from kolus.lease import Lease
from kolus.manager import ConnectionManager, SharedManager
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.support import check_whole, steady
from kolus.watching import Owner

__all__ = ["RedisPool"]

_SHARED, _ALONE, _WAITING, _SUBSCRIBER = "shared", "alone", "waiting", "subscriber"
_NOT_READY = ("LOADING", "MASTERDOWN", "BUSY", "ERR max number of clients")
_REFUSALS = (ResponseError, WatchError, InvalidData)


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
        password: Password = None,
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
        @raise ValueError: C{backend}, C{database} or C{charset} is invalid, C{policy} has no
            C{slots}, or there is a C{username} without a password.
        @raise TypeError: C{password} is neither a string nor a function.
        """
        policy = with_slots(policy)
        check_whole("database", database, 0)
        check_password(password)
        if username is not None and password is None:
            raise ValueError("a username needs a password")
        if charset is not None:
            _check_charset(charset)
        self._now = steady(reactor).seconds
        self._timeout = policy.acquire_timeout
        self._login = username, password
        self._database = database
        self.backend = Backend.of(backend)
        shared = policy.completed(prepare=self._prepare, check=_ping)
        self.pool: Pool[Any] = _Pool(reactor, shared, self._is_clean, charset, observers)
        self.pool.group([self.backend], name="redis", ident=_SHARED)  # keeps min_idle ready
        self._raw = {way: self._command("execute_command", way) for way in (_SHARED, _WAITING)}

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        """A command: C{redis.set("key", "value")}.

        It fails with C{ResponseError} if the server refuses it, which costs no connection.
        """
        method = getattr(RedisProtocol, name, None)
        if method is None and name.endswith("subscribe") and hasattr(SubscriberProtocol, name):
            raise AttributeError(
                f"{name} needs a connection of its own; write: {_Subscription.usage} "
                f"await subscriber.{name}(...)"
            )
        if name.startswith("_") or not name.islower() or not callable(method):
            raise AttributeError(f"txredisapi has no command {name!r}{_raw(name)}")
        waits_ = getattr(method, "_blocking", False)
        if name in BINDING or (waits_ and not method._release_on_callback):
            raise AttributeError(
                f"{name} binds a connection; write: async with redis.connection() as connection: "
                f"await connection.{name}(...)"
            )
        command = self._command(name, _WAITING if waits_ else _SHARED)
        vars(self)[name] = command
        return command

    def execute_command(self, *words: Any, **options: Any) -> Deferred[Any]:
        """Any command, also one that txredisapi has no method for:
        C{await redis.execute_command("XLEN", "log")}.

        @return: the reply; fails as all commands do.
        @raise ValueError: it would change the connection for those who share it.
        """
        if binds(words):
            raise ValueError(
                f"{word(words)} binds a connection; write: async with redis.connection() as "
                f"connection: await connection.execute_command({word(words)!r}, ...)"
            )
        return self._raw[_WAITING if waits(words) else _SHARED](*words, **options)

    def _command(self, name: str, ident: str) -> Callable[..., Deferred[Any]]:
        pool, backend = self.pool, self.backend
        is_reading, now, timeout = name in READING, self._now, self._timeout
        is_harmless = _is_harmless if ident == _SHARED else _waits_no_more

        def command(*arguments: Any, **options: Any) -> Deferred[Any]:
            call = methodcaller(name, *arguments, **options)
            answer: Deferred[Any]
            try:
                lease = pool.try_connect(ident, backend)
            except KolusError:
                answer = fail()
            else:
                if lease is not None:  # it costs one Deferred fewer
                    answer = run_call(lease, call, is_harmless)
                else:
                    asked = pool.connect(ident, backend)
                    answer = asked.addCallback(run_call, call, is_harmless)
            if not is_reading:
                return answer

            def again(seconds: float | None) -> Deferred[Any]:
                asked = pool.connect(ident, backend, timeout=seconds, fresh=True)
                return asked.addCallback(run_call, call, is_harmless)

            return call_again(answer, again, _is_lost, now, timeout)

        return command

    def connection(self, *, timeout: float | None = None, owner: Owner | None = None) -> Block:
        """A connection for one caller alone: C{async with redis.connection() as conn:}.

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
        given = await ask_password(password)
        if given is not None:
            await protocol.auth(given, username)
        if self._database:
            await protocol.select(self._database)
        try:
            await protocol.ping()  # a server that is ending accepts, but does not answer
        except ResponseError as error:  # it may let us in, and not let us ask this
            if str(error).startswith(_NOT_READY):
                raise
        protocol.database = self._database
        protocol.is_bound = False
        protocol.sends_at_once = isinstance(protocol.transport, FileDescriptor)

    def _is_clean(self, protocol: Any) -> bool:
        return not (
            protocol.inTransaction
            or protocol.pendingTransaction
            or protocol.pipelining
            or protocol.replyQueue.waiting
            or protocol.database != self._database
            or protocol.is_bound
        )


def _is_harmless(error: BaseException) -> bool:
    """Whether the connection is in order: the server said no, or nothing was sent."""
    return not isinstance(error, RedisError) or isinstance(error, _REFUSALS)


def _waits_no_more(error: BaseException) -> bool:
    """The same of a call that has its connection alone. If it is cancelled, it still waits in the
    server, and would take what others are to get."""
    return not isinstance(error, CancelledError) and _is_harmless(error)


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, ConnectionEnded)


def _check_charset(charset: str) -> None:
    """
    @raise ValueError: it is none that Python knows.
    """
    try:
        codecs.lookup(charset)
    except (LookupError, TypeError):
        raise ValueError(
            f"charset must be a name such as 'utf-8', or None for bytes, not {shown(charset)}"
        ) from None


def _raw(name: str) -> str:
    """What to write instead of a method that txredisapi does not have."""
    if name.startswith("_") or not name.islower():
        return ""
    words = ", ".join(repr(each) for each in name.upper().split("_"))
    return f"; write: redis.execute_command({words}, ...)"


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
        patient = replace(alone, leak_after=None)  # to wait for hours is no leak
        self._ways: dict[str, tuple[type[Any], Any, Policy]] = {
            _SHARED: (SharedManager, lambda: SharedConnection(charset), policy),
            _ALONE: (ConnectionManager, lambda: OwnConnection(charset), alone),
            _WAITING: (ConnectionManager, lambda: OwnConnection(charset), patient),
            _SUBSCRIBER: (ConnectionManager, lambda: Subscriber(charset), patient),
        }

    def _kind_for(self, ident: Any) -> tuple[type[Any], Any, Policy]:
        return self._ways[ident]


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
