"""What the README says of others is measured here."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.server import Site

from kolus import Policy
from kolus.clients.http import HTTPPool
from tests.docs.conftest import APage
from tests.net.asking import until
from tests.rigs.pages import ROOT, Page

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:Using readBody:DeprecationWarning"),
]


class Counting(Site):
    """Counts its connections."""

    noisy = False

    def __init__(self) -> None:
        super().__init__(APage())
        self.made = 0
        self.open: set[Any] = set()

    def buildProtocol(self, addr: object) -> Any:
        self.made += 1
        made = super().buildProtocol(addr)
        lost = made.connectionLost
        self.open.add(made)

        def gone(reason: object) -> None:
            self.open.discard(made)
            lost(reason)

        made.connectionLost = gone
        return made


async def connections_for_300_requests(pool: Any) -> int:
    site = Counting()
    endpoint = TCP4ServerEndpoint(reactor, 0, backlog=500, interface="127.0.0.1")
    port = await endpoint.listen(site)
    url = b"http://127.0.0.1:%d/" % port.getHost().port

    async def get() -> bytes:
        return await readBody(await Agent(reactor, pool=pool).request(b"GET", url))

    answers = await gatherResults([Deferred.fromCoroutine(get()) for _ in range(300)])
    assert answers == [b"a page"] * 300
    await pool.closeCachedConnections()
    await until(reactor, lambda: not site.open)
    await port.stopListening()
    return site.made


@pytest_twisted.ensureDeferred
async def test_of_the_connections_that_300_requests_make() -> None:
    text = " ".join(Page(ROOT / "README.md").text.split())
    assert (
        "made 300 connections with `HTTPConnectionPool` (`maxPersistentPerHost = 5`) and 5" in text
    )
    twisteds = HTTPConnectionPool(reactor)
    twisteds.maxPersistentPerHost = 5
    assert await connections_for_300_requests(twisteds) == 300
    ours = HTTPPool(reactor, policy=Policy(limit=5, acquire_timeout=30.0))
    assert await connections_for_300_requests(ours) == 5
    await ours.close()
