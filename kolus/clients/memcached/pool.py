"""C{MemcachedPool}: a pool of connections to servers that share the keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, gatherResults
from twisted.internet.error import ConnectionClosed
from twisted.protocols.memcache import ClientError, MemCacheProtocol, NoSuchCommand, ServerError
from twisted.python.failure import Failure

from kolus.backend import AnyBackend, Backend
from kolus.balance import Ring, consistent
from kolus.clients.calls import call_again, run_call
from kolus.clients.client import Client, listed, with_slots
from kolus.clients.memcached.connection import Connection
from kolus.errors import ConnectFailed
from kolus.events import Observer
from kolus.group import Group
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.support import steady

__all__ = ["MemcachedPool"]

_IDENT = "memcached"
_KEY = re.compile(rb"[^\x00-\x20\x7f]+")
_OF_A_KEY = frozenset(
    {
        *("add", "append", "checkAndSet", "decrement", "delete", "get", "increment", "prepend"),
        *("replace", "set"),
    }
)

_HARMLESS = (CancelledError, ClientError, ServerError, NoSuchCommand, TypeError, ValueError)
_OF_A_SERVER = (
    "; for one server write: async with await cache.pool.connect('memcached', backend) as lease: "
    "await lease.protocol.stats()"
)


class MemcachedPool(Client):
    """A pool of connections to memcached servers: C{await cache.get(b"key")}.

    The methods of C{MemCacheProtocol} that take a key are methods here. Consistent hashing gives
    each key its server. While that server cannot be reached, the key belongs to the next one.
    C{get} and C{getMultiple} are sent once more if their connection ended before the answer came.
    A reply that cannot be that of the call raises C{WrongReply}, and ends its connection.

    @ivar group: the servers.
    """

    group: Group[MemCacheProtocol]

    def __init__(
        self,
        reactor: Any,
        backends: Iterable[AnyBackend] = ("tcp:127.0.0.1:11211",),
        *,
        policy: Policy | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        """
        @param backends: where the servers are.
        @param policy: all settings; its C{slots} is the number of calls that share a connection at
            a time. The default is C{Policy(slots=100)}.
        @raise ValueError: a backend is invalid, or C{policy} has no C{slots}.
        """
        policy = with_slots(policy).completed(prepare=_version, check=_version)
        clock = steady(reactor)
        self._now = clock.seconds
        self._timeout = policy.acquire_timeout
        self.pool: Pool[MemCacheProtocol] = Pool(
            reactor, lambda: Connection(clock), policy=policy, observers=observers
        )
        self.group = self.pool.group(listed(backends), name=_IDENT, ident=_IDENT)
        self._ring = Ring()

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        """A method of C{MemCacheProtocol} that takes a key."""
        if name not in _OF_A_KEY:
            known = ", ".join(sorted(_OF_A_KEY))
            hint = _OF_A_SERVER if name in ("flushAll", "stats", "version") else ""
            raise AttributeError(
                f"no method {name!r} for a key; there are {known}, getMultiple{hint}"
            )

        def call(key: bytes, *arguments: Any, **options: Any) -> Deferred[Any]:
            if isinstance(key, bytes) and not _KEY.fullmatch(key):
                return fail(ClientError(f"a key has no blanks or control characters, not {key!r}"))
            ask = methodcaller(name, key, *arguments, **options)
            answer = self._call(key, ask)
            if name != "get":
                return answer

            def again(seconds: float | None) -> Deferred[Any]:
                return self._call(key, ask, timeout=seconds, fresh=True)

            return call_again(answer, again, _is_lost, self._now, self._timeout)

        return call

    def getMultiple(self, keys: Iterable[bytes]) -> Deferred[dict[bytes, Any]]:
        """See C{MemCacheProtocol.getMultiple}; the keys may be those of several servers."""
        asked = tuple(dict.fromkeys(keys))
        answers = gatherResults([self.get(key) for key in asked], consumeErrors=True)
        return answers.addCallbacks(lambda all_: dict(zip(asked, all_, strict=True)), _first)

    def _call(
        self,
        key: bytes,
        ask: Callable[[Any], Deferred[Any]],
        dead: tuple[Backend, ...] = (),
        **options: Any,
    ) -> Deferred[Any]:
        chooses = consistent(key, self._ring, spill=None)
        asked: Deferred[Any] = self.group.connect(_IDENT, balancer=chooses, exclude=dead, **options)

        def failed(failure: Failure) -> Any:
            failure.trap(ConnectFailed)
            its: Any = failure.value
            if len(dead) + 1 >= len(self.group.backends):
                return failure
            return self._call(key, ask, (*dead, its.backend))

        return asked.addCallbacks(run_call, failed, (ask, _is_harmless))


def _first(failure: Failure) -> Failure:
    """What the first of several calls failed with."""
    error: Any = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, ConnectionClosed)


def _is_harmless(error: BaseException) -> bool:
    """The server said no, or the call was refused before it was sent, or it was cancelled."""
    return isinstance(error, _HARMLESS)


async def _version(protocol: Any) -> None:
    await protocol.version()
