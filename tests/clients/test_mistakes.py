"""What one writes who has used other pools, or has made a slip: it works, or says what to write."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.protocols.memcache import ClientError

from kolus import Backend, Closed, Policy
from kolus.clients.amp import AMPPool
from kolus.clients.http import HTTPPool
from kolus.clients.memcached import MemcachedPool
from kolus.clients.postgres import PostgresPool
from kolus.clients.redis import RedisPool
from kolus.testing.results import failure_of, result_of

HERE = "tcp:127.0.0.1:1"

CLIENTS: dict[str, Callable[..., Any]] = {
    "amp": lambda reactor, **options: AMPPool(reactor, [HERE], **options),
    "http": HTTPPool,
    "memcached": lambda reactor, **options: MemcachedPool(reactor, [HERE], **options),
    "postgres": lambda reactor, **options: PostgresPool(reactor, "host=127.0.0.1", **options),
    "redis": lambda reactor, **options: RedisPool(reactor, HERE, **options),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_what_is_no_reactor_or_no_policy_is_refused_by_its_name(name: str) -> None:
    make = CLIENTS[name]
    with pytest.raises(TypeError, match="reactor must be a reactor or a clock, not 'tcp:"):
        make(HERE)
    with pytest.raises(TypeError, match="policy must be a Policy, not 5"):
        make(Clock(), policy=5)


@pytest.mark.parametrize("name", ["http", "postgres"])
def test_slots_are_refused_where_connections_serve_one_at_a_time(name: str) -> None:
    with pytest.raises(ValueError, match="policy has slots, but these connections"):
        CLIENTS[name](Clock(), policy=Policy(slots=10))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_is_closed_at_the_end_of_its_block(name: str) -> None:
    policy = None if name == "http" else Policy(slots=None if name == "postgres" else 10)

    async def program() -> Any:
        async with CLIENTS[name](Clock(), policy=policy) as client:
            assert client.pool.try_connect("ident", HERE) is None
        return client

    client = result_of(Deferred.fromCoroutine(program()))
    with pytest.raises(Closed):
        client.pool.try_connect("ident", HERE)


@pytest.mark.parametrize("make", [AMPPool, MemcachedPool])
def test_servers_that_are_no_list_are_refused(make: Callable[..., Any]) -> None:
    for one in (HERE, ("127.0.0.1", 1), Backend(HERE)):
        with pytest.raises(ValueError, match=re.escape(f"must be a list: write [{one!r}]")):
            make(Clock(), one)
    for none in (None, 11211):
        with pytest.raises(TypeError, match=f"backends must be a list, not {none}"):
            make(Clock(), none)
    make(Clock(), ("tcp:127.0.0.1:1", "tcp:127.0.0.1:2"))


@pytest.mark.parametrize("conninfo", [None, 5432, {"password": "secret"}])
def test_a_conninfo_that_is_no_string_is_refused_and_not_shown(conninfo: Any) -> None:
    with pytest.raises(TypeError, match=r"conninfo must be a string, not \w+$"):
        PostgresPool(Clock(), conninfo)


@pytest.mark.parametrize("key", [b"a b", b"a\r\nflush_all", b"a\tb", b"\x00", b"\x7f", b""])
def test_a_key_that_would_be_another_command_is_not_sent_to_memcached(key: bytes) -> None:
    cache = MemcachedPool(Clock())
    for asked in (cache.get(key), cache.set(key, b"x"), cache.getMultiple([key])):
        assert "a key has no blanks or control characters" in str(failure_of(ClientError, asked))
