"""HTTP over a pool: Twisted's Agent and treq before servers that do what they should, or not."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, PrivateCertificate, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    FileBodyProducer,
    PartialDownloadError,
    ProxyAgent,
    RedirectAgent,
    ResponseFailed,
    readBody,
)
from twisted.web.http_headers import Headers

from kolus import ConnectFailed, LeaseTimeout
from kolus.clients.http import BodyTimeout, HTTPPool, take_over
from tests.clients.conftest import Nginx
from tests.clients.http_servers import OK, Counting, Heard, get, idle, nothing_is_leased, start
from tests.net.asking import until

MakeServer = Callable[..., Any]
MakePool = Callable[..., HTTPPool]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning"),  # by Twisted
]


@pytest_twisted.ensureDeferred
async def test_more_requests_than_connections_wait_for_their_turn(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=5)
    bodies = await gatherResults([start(get(pool, server.url + b"/page")) for _ in range(300)])
    assert set(bodies) == {b"page of GET "}
    assert server.connections <= 5
    assert nothing_is_leased(pool)


@pytest_twisted.ensureDeferred
async def test_one_request_after_the_other_uses_one_connection(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool()
    for path in (b"/page", b"/slow", b"/page"):
        assert await get(pool, server.url + path)
    assert await get(pool, server.url + b"/page", b"HEAD") == b""
    assert server.connections == 1
    assert idle(pool) == [1]


@pytest_twisted.ensureDeferred
async def test_a_request_with_a_body_and_redirects_work(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool()
    body = FileBodyProducer(BytesIO(b"x" * 100_000))
    told = await get(pool, server.url + b"/page", b"POST", body)
    assert told == b"page of POST " + b"x" * 100_000
    response = await RedirectAgent(Agent(reactor, pool=pool)).request(b"GET", server.url + b"/to")
    assert await readBody(response) == b"page of GET "


@pytest_twisted.ensureDeferred
async def test_a_request_that_follows_within_the_end_of_another_is_answered(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=1)

    async def chain(length: int) -> None:
        for _ in range(length):
            assert await get(pool, server.url + b"/page")

    await gatherResults([start(chain(30)) for _ in range(5)])
    assert server.connections == 1


@pytest_twisted.ensureDeferred
async def test_a_server_that_closes_after_each_reply_is_connected_to_anew(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=1)
    asked = [start(get(pool, server.url + b"/close")) for _ in range(10)]
    assert set(await gatherResults(asked)) == {b"page of GET "}
    assert server.connections == 10
    assert pool.pool.counters().connect_failures == 0


@pytest_twisted.ensureDeferred
async def test_a_server_of_http_1_0_serves(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server = make_server([b"HTTP/1.0 200 OK\r\n\r\nold"] * 12)
    pool = make_http_pool()
    for _ in range(12):
        with pytest.raises(
            PartialDownloadError
        ) as caught:  # Twisted's: it ends with the connection
            await get(pool, server.url)
        assert caught.value.response == b"old"
    assert pool.pool.counters().connect_failures == 0


@pytest_twisted.ensureDeferred
async def test_a_repeatable_request_on_a_stale_connection_is_sent_once_more(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK, None, OK]), make_http_pool(limit=1)
    assert await get(pool, server.url) == b"ok"
    assert await get(pool, server.url) == b"ok"
    assert len(server.requests) == 3


@pytest_twisted.ensureDeferred
async def test_a_request_is_sent_twice_at_most(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK, None, None, OK]), make_http_pool(limit=1)
    assert await get(pool, server.url) == b"ok"
    with pytest.raises(ResponseFailed):
        await get(pool, server.url)
    assert len(server.requests) == 3
    await until(reactor, lambda: nothing_is_leased(pool))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
async def test_other_requests_are_not_repeated(
    make_server: MakeServer, make_http_pool: MakePool, method: bytes
) -> None:
    server, pool = make_server([OK, None, OK]), make_http_pool(limit=1)
    assert await get(pool, server.url) == b"ok"
    with pytest.raises(ResponseFailed):
        await get(pool, server.url, method)
    assert len(server.requests) == 2


@pytest_twisted.ensureDeferred
async def test_a_body_that_nobody_reads_gives_its_connection_back_after_a_time(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(body_timeout=0.2, limit=1)
    response = await Agent(reactor, pool=pool).request(b"GET", server.url + b"/half")
    assert await get(pool, server.url + b"/page")
    with pytest.raises(ResponseFailed) as caught:
        await readBody(response)
    assert caught.value.reasons[0].check(BodyTimeout)


@pytest_twisted.ensureDeferred
async def test_a_body_that_stops_coming_is_an_error_after_a_time(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(body_timeout=0.2, limit=1)
    with pytest.raises(Exception, match=r"0\.2 s|BodyTimeout"):
        await get(pool, server.url + b"/half")
    await until(reactor, lambda: nothing_is_leased(pool))


@pytest_twisted.ensureDeferred
async def test_the_time_for_a_body_begins_with_each_response(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(body_timeout=0.4, limit=1)
    for _ in range(6):
        await get(pool, server.url + b"/page")
        await deferLater(reactor, 0.1)
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_cancelled_gives_its_connection_back(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=2)
    for turns in range(40):
        asked = [start(get(pool, server.url + b"/slow")) for _ in range(4)]
        for _ in range(turns % 12):
            await deferLater(reactor, 0)
        for each in asked:
            each.addErrback(lambda failure: None)
            each.cancel()
        await gatherResults(asked)
    assert await get(pool, server.url + b"/page")
    await until(reactor, lambda: nothing_is_leased(pool))


@pytest_twisted.ensureDeferred
async def test_a_body_that_its_reader_closes_early_gives_its_connection_back(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    class Closes(Protocol):
        def dataReceived(self, data: bytes) -> None:
            transport: Any = self.transport
            transport.loseConnection()

    server, pool = make_server(), make_http_pool(limit=1)
    response = await Agent(reactor, pool=pool).request(b"GET", server.url + b"/half")
    response.deliverBody(Closes())
    assert await get(pool, server.url + b"/page")


@pytest_twisted.ensureDeferred
async def test_a_byte_beyond_the_reply_costs_the_connection(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK + b"!", OK, OK]), make_http_pool(limit=1)
    for _ in range(3):
        assert await get(pool, server.url) == b"ok"
    assert pool.pool.counters().connects == 2


@pytest_twisted.ensureDeferred
async def test_a_reply_before_the_request_is_sent_is_a_reply(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    class Endless:
        """A body that never ends by itself."""

        length = 10_000_000

        def startProducing(self, consumer: Any) -> Deferred[None]:
            consumer.write(b"x" * 1000)
            return Deferred()

        def pauseProducing(self) -> None: ...
        def resumeProducing(self) -> None: ...
        def stopProducing(self) -> None: ...

    server = make_server([b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno", OK])
    pool = make_http_pool(limit=1)
    assert await get(pool, server.url, b"POST", Endless()) == b"no"
    assert await get(pool, server.url) == b"ok"


@pytest_twisted.ensureDeferred
async def test_a_host_that_refuses_is_an_error_that_says_so(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    from tests.net.servers import free_port

    pool = make_http_pool()
    with pytest.raises(ConnectFailed, match="refused"):
        await get(pool, b"http://127.0.0.1:%d/" % free_port())


@pytest_twisted.ensureDeferred
async def test_a_full_pool_says_so_at_the_deadline(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=1, acquire_timeout=0.1)
    await Agent(reactor, pool=pool).request(b"GET", server.url + b"/half")
    with pytest.raises(LeaseTimeout, match="limit 1"):
        await get(pool, server.url + b"/page")


@pytest_twisted.ensureDeferred
async def test_hosts_that_are_not_used_any_more_are_forgotten(
    make_http_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kolus.clients.http import pool as module

    monkeypatch.setattr(module, "_MOST_KNOWN", 3)
    pool = make_http_pool()
    for number in range(1, 20):
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", 1)
        pool._backend((b"http", b"h", number), endpoint)
    assert len(pool._backends) <= 3


@pytest_twisted.ensureDeferred
async def test_cancelled_while_it_waits_it_leaves_the_queue(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=1)
    await Agent(reactor, pool=pool).request(b"GET", server.url + b"/half")
    waits = start(get(pool, server.url + b"/page"))
    waits.cancel()
    with pytest.raises(CancelledError):
        await waits
    assert pool.status()[0].waiting == 0


@pytest_twisted.ensureDeferred
async def test_an_upgraded_connection_leaves_the_pool_and_speaks_another_protocol(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    switching = b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhello"
    server, pool = make_server([switching, OK]), make_http_pool(limit=1)
    headers = Headers({b"Upgrade": [b"echo"], b"Connection": [b"Upgrade"]})
    response = await Agent(reactor, pool=pool).request(b"GET", server.url, headers)
    assert response.code == 101
    assert await get(pool, server.url) == b"ok"  # by another connection, under a limit of one
    heard = Heard()
    take_over(response, heard)
    assert heard.data == b"hello"
    heard.transport.write(b"more\r\n\r\n")
    await until(reactor, lambda: b"more" in server.requests)
    with pytest.raises(ValueError, match="once"):
        take_over(response, heard)
    heard.transport.loseConnection()
    await until(reactor, lambda: heard.lost)
    assert pool.pool.counters().detached == 1


@pytest_twisted.ensureDeferred
async def test_an_upgrade_that_is_refused_is_a_response_like_any_other(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK, OK]), make_http_pool(limit=1)
    headers = Headers({b"Upgrade": [b"echo"], b"Connection": [b"Upgrade"]})
    response = await Agent(reactor, pool=pool).request(b"GET", server.url, headers)
    assert await readBody(response) == b"ok"
    with pytest.raises(ValueError, match="200"):
        take_over(response, Heard())
    assert await get(pool, server.url) == b"ok"
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_continue_first_is_waited_for(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server = make_server([b"HTTP/1.1 100 Continue\r\n\r\n" + OK, OK])
    pool = make_http_pool(limit=1)
    headers = Headers({b"Expect": [b"100-continue"]})
    response = await Agent(reactor, pool=pool).request(b"PUT", server.url, headers)
    assert await readBody(response) == b"ok"
    assert await get(pool, server.url) == b"ok"
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
async def test_a_proxy_is_one_host(make_server: MakeServer, make_http_pool: MakePool) -> None:
    server, pool = make_server([OK] * 5), make_http_pool(limit=1)
    port = int(server.url.rpartition(b":")[2])
    agent = ProxyAgent(TCP4ClientEndpoint(reactor, "127.0.0.1", port), reactor, pool)
    for number in range(5):
        response = await agent.request(b"GET", b"http://host%d.test/" % number)
        assert await readBody(response) == b"ok"
    assert pool.pool.counters().connects == 1
    assert server.requests[3].startswith(b"GET http://host3.test/ ")


@pytest_twisted.ensureDeferred
async def test_https_is_verified_and_pooled(make_http_pool: MakePool) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    server = Counting()
    port = reactor.listenSSL(
        0, server, PrivateCertificate.loadPEM(certificate).options(), interface="127.0.0.1"
    )
    url = b"https://localhost:%d/page" % port.getHost().port
    root = trustRootFromCertificates([Certificate.loadPEM(authority.cert_pem.bytes())])
    trusting = BrowserLikePolicyForHTTPS(root)
    pool = make_http_pool(limit=2)
    agent = Agent(reactor, trusting, pool=pool)

    async def secure() -> bytes:
        return await readBody(await agent.request(b"GET", url))

    assert set(await gatherResults([start(secure()) for _ in range(20)])) == {b"page of GET "}
    assert server.connections <= 2
    with pytest.raises(ConnectFailed, match="certificate"):
        await get(make_http_pool(), url)
    await pool.close(0)

    made, policy_of_host = [], trusting.creatorForNetloc
    trusting.creatorForNetloc = lambda *where: made.append(where) or policy_of_host(*where)  # type: ignore[method-assign, func-returns-value]
    another = make_http_pool(limit=2)
    agent = another.agent(trusting)
    assert [await secure() for _ in range(3)] == [b"page of GET "] * 3
    assert len(made) == 1, "an agent of the pool makes the endpoint of a host once"
    await another.close(0)
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_idle_connections_are_closed_after_a_time_or_by_hand(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(idle_timeout=0.1)
    assert await get(pool, server.url + b"/page")
    await until(reactor, lambda: pool.pool.counters().closes == 1)
    assert await get(pool, server.url + b"/page")
    await pool.closeCachedConnections()
    await until(reactor, lambda: pool.pool.counters().closes == 2)


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_that_the_server_closed_is_not_used(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK, OK]), make_http_pool()
    assert await get(pool, server.url) == b"ok"
    pool.retryAutomatically = False
    for each in server.connected:
        each.transport.loseConnection()
    await until(reactor, lambda: idle(pool) == [0])
    assert await get(pool, server.url) == b"ok"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["switched off", "with a body", "cancelled"])
async def test_a_request_is_not_repeated(
    make_server: MakeServer, make_http_pool: MakePool, how: str
) -> None:
    server, pool = make_server([OK, b"" if how == "cancelled" else None]), make_http_pool(limit=1)
    assert await get(pool, server.url) == b"ok"
    pool.retryAutomatically = how != "switched off"
    body = FileBodyProducer(BytesIO(b"body")) if how == "with a body" else None
    asked = start(get(pool, server.url, body=body))
    if how == "cancelled":
        await until(reactor, lambda: len(server.requests) == 2)
        asked.cancel()
    with pytest.raises((ResponseFailed, CancelledError)):
        await asked
    await until(reactor, lambda: nothing_is_leased(pool))
    assert len(server.requests) == 2


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_crawl_over_two_hundred_hosts_keeps_to_its_limit_over_all(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server = make_server()
    port = int(server.url.rpartition(b":")[2])
    pool = make_http_pool(over_all=50, limit=4)
    most = 0

    async def crawl(host: int) -> None:
        nonlocal most
        url = b"http://127.0.1.%d:%d/page" % (host, port)
        for _ in range(5):
            assert await get(pool, url) == b"page of GET "
            counters = pool.pool.counters()
            most = max(most, counters.connects - counters.closes)

    await gatherResults([start(crawl(host)) for host in range(1, 201)])
    assert 40 <= most <= 50


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_nginx_sees_ten_connections_of_a_thousand_requests_at_a_time(
    nginx: Nginx, make_http_pool: MakePool
) -> None:
    pool = make_http_pool(limit=10)
    bodies = await gatherResults([start(get(pool, nginx.url)) for _ in range(1000)])
    assert set(bodies) == {b"a page"}
    await until(reactor, lambda: len(nginx.connections()) == 1000)
    assert len(set(nginx.connections())) <= 10


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_restart_of_nginx_fails_no_request_that_may_be_repeated(
    nginx: Nginx, make_http_pool: MakePool
) -> None:
    pool = make_http_pool(limit=5)
    for _ in range(5):
        await gatherResults([start(get(pool, nginx.url)) for _ in range(20)])
        # An attempt that is refused while nginx is away makes the next requests fail at once.
        await until(reactor, lambda: pool.status()[0].connecting == 0)
        await nginx.terminate()
        await nginx.start()
    assert await get(pool, nginx.url) == b"a page"


@pytest_twisted.ensureDeferred
async def test_treq_uses_the_connections_of_the_pool(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    import treq

    server, pool = make_server(), make_http_pool()
    response = await treq.get(server.url.decode() + "/page", pool=pool)
    assert await response.text() == "page of GET "
    await until(reactor, lambda: idle(pool) == [1])
