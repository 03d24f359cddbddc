"""What one writes who has used other pools, or has made a slip: it works, or says what to write."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, formatEvent
from twisted.protocols.memcache import ClientError
from twisted.web.client import Agent
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from kolus import Backend, Closed, Policy, Pool
from kolus.clients.amp import AMPPool
from kolus.clients.http import HTTPPool
from kolus.clients.memcached import MemcachedPool
from kolus.clients.password import ask_password
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
    with pytest.raises(
        TypeError, match="reactor must be a reactor or a clock, not a str: it comes"
    ):
        make(HERE)
    with pytest.raises(TypeError, match="policy must be a Policy, not 5"):
        make(Clock(), policy=5)


@pytest.mark.parametrize("secret", ["postgresql://me:hush@there/db", "host=there password=hush"])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_password_in_the_place_of_another_argument_is_not_shown(name: str, secret: str) -> None:
    with pytest.raises(TypeError, match="reactor must be a reactor or a clock") as refused:
        CLIENTS[name](secret)
    assert "hush" not in str(refused.value)
    mistakes: list[Callable[[], object]] = [
        lambda: CLIENTS[name](Clock(), policy=secret),
        lambda: CLIENTS[name](Clock(), observers=[secret]),
        lambda: Pool(Clock(), secret),  # type: ignore[arg-type]
        lambda: Pool(Clock(), Protocol, policy=secret),  # type: ignore[arg-type]
        lambda: Pool(Clock(), Protocol).group(secret),  # type: ignore[arg-type]
        lambda: MemcachedPool(Clock(), secret),
    ]
    for make in mistakes:
        with pytest.raises((TypeError, ValueError), match=r"\*\*\*") as caught:
            make()
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_shows_its_numbers(name: str) -> None:
    client = CLIENTS[name](Clock())
    assert repr(client) == f"<{type(client).__name__} on {client.pool!r}>"


@pytest.mark.parametrize("is_own", [True, False])
def test_a_url_with_a_password_is_refused_and_its_password_is_not_kept(
    is_own: bool, log_events: list[LogEvent]
) -> None:
    reactor = MemoryReactorClock()
    pool = HTTPPool(reactor)
    agent = pool.agent() if is_own else Agent(reactor, pool=pool)
    error = failure_of(ValueError, agent.request(b"GET", b"http://me:hush@localhost/"))
    lines = [formatEvent(each) for each in log_events]
    told = f"{error!r} {pool.status()} {pool.explain()} {lines}"
    assert "Authorization" in told
    assert "hush" not in told


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        (b"http://localhost:0/", "the port of a URL must be from 1 to 65535, not 0"),
        (b"http://localhost:65616/", "the port of a URL must be from 1 to 65535, not 65616"),
        (b"http:///path", "the URL has no host: write http://HOST/PATH"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(is_own: bool, url: bytes, told: str) -> None:
    reactor = MemoryReactorClock()
    pool = HTTPPool(reactor)
    agent = pool.agent() if is_own else Agent(reactor, pool=pool)
    assert str(failure_of(ValueError, agent.request(b"GET", url))) == told
    assert not reactor.tcpClients


@pytest.mark.parametrize("url", [b"localhost:8080/", b"/path", b"ftp://localhost/"])
def test_a_url_of_another_scheme_says_what_to_write(url: bytes) -> None:
    asked = HTTPPool(MemoryReactorClock()).agent().request(b"GET", url)
    told = str(failure_of(SchemeNotSupported, asked))
    assert "must be http or https" in told
    assert told.endswith("write http://HOST/PATH")


@implementer(IPolicyForHTTPS)
class WithoutOpenSSL:
    """As Twisted's own if pyOpenSSL is not installed."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        raise NotImplementedError("SSL support unavailable")


def test_https_without_its_extra_says_what_to_install() -> None:
    agent = HTTPPool(MemoryReactorClock()).agent(WithoutOpenSSL())
    with pytest.raises(NotImplementedError, match=re.escape("pip install 'kolus[http]'")):
        agent.request(b"GET", b"https://localhost/")


@pytest.mark.parametrize("name", ["http", "postgres"])
def test_slots_are_refused_where_connections_serve_one_at_a_time(name: str) -> None:
    with pytest.raises(ValueError, match="policy has slots, but these connections"):
        CLIENTS[name](Clock(), policy=Policy(slots=10))


SLOTS = {"memcached": 100, "redis": 100}


@pytest.mark.parametrize("settings", [{"keepalive": 30}, {"idle_timeout": 1}, {"lifetime": 3}])
@pytest.mark.parametrize("name", ["memcached", "postgres", "redis"])
def test_a_client_brings_the_check_that_the_settings_of_its_user_need(
    name: str, settings: dict[str, float]
) -> None:
    policy = Policy(slots=SLOTS.get(name), **settings)  # type: ignore[arg-type]
    completed = CLIENTS[name](Clock(), policy=policy).pool.policy
    assert (completed.check is not None) == ("keepalive" in settings)
    assert completed.prepare is not None


@pytest.mark.parametrize("name", ["amp", "http"])
def test_a_client_without_a_check_says_that_a_keep_alive_needs_one(name: str) -> None:
    with pytest.raises(ValueError, match="keepalive=30 needs a check"):
        CLIENTS[name](Clock(), policy=Policy(keepalive=30, slots=100 if name == "amp" else None))


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


@pytest.mark.parametrize(
    ("name", "verb", "told"),
    [
        ("http", "request", "write: pool.agent().request(b'GET', url), or treq.get(url, agent="),
        ("http", "get", "write: pool.agent().request(b'GET', url), or treq.get(url, agent="),
        ("postgres", "runQuery", "write: async with pool.connection() as connection: await conn"),
        ("postgres", "getconn", "write: async with pool.connection() as connection:"),
        ("amp", "fly", "'AMPPool' object has no attribute 'fly'"),
    ],
)
def test_what_other_pools_have_and_this_has_not_says_what_to_write(
    name: str, verb: str, told: str
) -> None:
    with pytest.raises(AttributeError, match=re.escape(told)):
        getattr(CLIENTS[name](Clock()), verb)


def test_a_setting_of_twisteds_pool_that_would_have_no_effect_is_refused() -> None:
    pool = HTTPPool(Clock())
    with pytest.raises(AttributeError, match=re.escape("write: HTTPPool(reactor, policy=Policy(")):
        pool.maxPersistentPerHost = 5  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=re.escape("Policy(idle_timeout=...)")):
        pool.cachedConnectionTimeout = 30  # type: ignore[attr-defined]
    pool.retryAutomatically = False


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("subscribe", "write: async with redis.subscriber(received) as subscriber: await sub"),
        ("punsubscribe", "write: async with redis.subscriber(received) as subscriber: await sub"),
        ("watch", "write: async with redis.connection() as connection: await connection.watch"),
        ("xadd", "txredisapi has no command 'xadd'; write: redis.execute_command('XADD', ...)"),
        ("config_get", "write: redis.execute_command('CONFIG', 'GET', ...)"),
        ("Get", "txredisapi has no command 'Get'"),
    ],
)
def test_a_command_that_cannot_share_a_connection_says_what_to_write(name: str, told: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(told)):
        getattr(RedisPool(Clock()), name)


@pytest.mark.parametrize("conninfo", [None, 5432, {"password": "secret"}])
def test_a_conninfo_that_is_no_string_is_refused_and_not_shown(conninfo: Any) -> None:
    told = r"conninfo must be a string, such as 'host=127.0.0.1 user=postgres', not \w+$"
    with pytest.raises(TypeError, match=told):
        PostgresPool(Clock(), conninfo)


@pytest.mark.parametrize("key", [b"a b", b"a\r\nflush_all", b"a\tb", b"\x00", b"\x7f", b""])
def test_a_key_that_would_be_another_command_is_not_sent_to_memcached(key: bytes) -> None:
    cache = MemcachedPool(Clock())
    for asked in (cache.get(key), cache.set(key, b"x"), cache.getMultiple([key])):
        assert "a key has no blanks or control characters" in str(failure_of(ClientError, asked))


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (
            lambda: RedisPool(Clock(), database="5"),  # type: ignore[arg-type]
            ValueError,
            "database must be a whole number of at least 0, not '5'",
        ),
        (
            lambda: RedisPool(Clock(), database=-1),
            ValueError,
            "database must be a whole number of at least 0, not -1",
        ),
        (
            lambda: RedisPool(Clock(), charset="utf-88"),
            ValueError,
            "charset must be a name such as 'utf-8', or None for bytes, not 'utf-88'",
        ),
        (
            lambda: PostgresPool(Clock(), row_factory="dict"),
            TypeError,
            "row_factory must be a function such as psycopg.rows.dict_row, not 'dict'",
        ),
        (
            lambda: PostgresPool(Clock(), autocommit="off"),  # type: ignore[arg-type]
            TypeError,
            "autocommit must be True or False, not 'off'",
        ),
        (
            lambda: PostgresPool(Clock(), discard=1),  # type: ignore[arg-type]
            TypeError,
            "discard must be True or False, not 1",
        ),
        (
            lambda: HTTPPool(Clock()).agent(object),  # type: ignore[arg-type]
            TypeError,
            "contextFactory must provide IPolicyForHTTPS, such as BrowserLikePolicyForHTTPS(), not",
        ),
        (
            lambda: RedisPool(Clock(), username="me"),
            ValueError,
            "a username needs a password",
        ),
        (
            lambda: RedisPool(Clock(), password=5),  # type: ignore[arg-type]
            TypeError,
            "password must be a string or a function, not int",
        ),
        (
            lambda: PostgresPool(Clock(), password=b"hush"),  # type: ignore[arg-type]
            TypeError,
            "password must be a string or a function, not bytes",
        ),
        (
            lambda: HTTPPool(Clock()).agent().request(b"GET", "http://localhost/"),  # type: ignore[arg-type]
            TypeError,
            "a URL must be bytes, such as b'http://example.com/', not 'http://localhost/'",
        ),
    ],
)
def test_an_argument_that_would_fail_at_the_first_request_is_refused_at_once(
    make: Callable[[], Any], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=re.escape(told)):
        make()


@pytest.mark.parametrize("given", [b"hush", 5, succeed(b"hush")])
def test_a_password_function_that_gives_no_string_says_so(given: object) -> None:
    asked = Deferred.fromCoroutine(ask_password(lambda: given))
    error = failure_of(TypeError, asked)
    assert "the password function must give a string, not" in str(error)
    assert "hush" not in str(error)
