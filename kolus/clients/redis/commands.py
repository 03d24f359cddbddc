"""What each command asks of its connection: that it is not shared, or is kept, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BINDING", "READING", "binds", "waits", "word"]

BINDING = frozenset({"auth", "commit", "discard", "execute_pipeline", "quit", "select", "unwatch"})
"""The methods of txredisapi that change a connection, besides those that it marks itself."""

READING = frozenset(
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

_BINDING_WORDS = frozenset(
    {
        *("ASKING", "AUTH", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "PSUBSCRIBE", "PSYNC"),
        *("PUNSUBSCRIBE", "QUIT", "READONLY", "READWRITE", "REPLCONF", "RESET", "SELECT"),
        *("SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC", "UNSUBSCRIBE", "UNWATCH", "WAIT"),
        *("WAITAOF", "WATCH"),
    }
)
_BINDING_OF_CLIENT = frozenset(
    {"CACHING", "NO-EVICT", "NO-TOUCH", "REPLY", "SETINFO", "SETNAME", "TRACKING"}
)
_WAITING_WORDS = frozenset(
    {"BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN"}
)
_WAITING_WITH_BLOCK = frozenset({"XREAD", "XREADGROUP"})


def word(command: Sequence[object], place: int = 0) -> str:
    """One of the words that are sent, in capitals; empty if there are not so many."""
    if place >= len(command):
        return ""
    its = command[place]
    return (its.decode("latin-1") if isinstance(its, bytes) else str(its)).upper()


def binds(command: Sequence[object]) -> bool:
    """Whether later commands on the same connection have another meaning, or none."""
    first = word(command)
    return first in _BINDING_WORDS or (first == "CLIENT" and word(command, 1) in _BINDING_OF_CLIENT)


def waits(command: Sequence[object]) -> bool:
    """Whether it waits in the server, and all that is sent after it."""
    first = word(command)
    return first in _WAITING_WORDS or (
        first in _WAITING_WITH_BLOCK and "BLOCK" in [word((each,)) for each in command]
    )
