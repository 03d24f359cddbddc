"""Three hundred requests for pages share five connections; the others wait for their turn.

The example has its own server: python examples/http_pages.py
"""

from __future__ import annotations

import warnings
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site

from kolus import Policy
from kolus.clients.http import HTTPPool

PAGES = 300

warnings.filterwarnings("ignore", "Using readBody", DeprecationWarning)  # of Twisted


class Pages(Resource):
    """Answers each path with a page."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"the page at " + bytes(request.path)


async def get(agent: Agent, url: str) -> bytes:
    response = await agent.request(b"GET", url.encode())
    return bytes(await readBody(response))


async def main(reactor: Any) -> None:
    site = Site(Pages())  # type: ignore[no-untyped-call]
    listening = reactor.listenTCP(0, site, interface="127.0.0.1")
    host = f"http://127.0.0.1:{listening.getHost().port}"

    pool = HTTPPool(reactor, policy=Policy(limit=5, acquire_timeout=30.0))
    agent = pool.agent()  # and treq.get(url, agent=agent)
    pages = [Deferred.fromCoroutine(get(agent, f"{host}/{number}")) for number in range(PAGES)]
    answers = await gatherResults(pages)
    assert answers == [b"the page at /%d" % number for number in range(PAGES)]

    print(f"{PAGES} pages on {pool.pool.counters().connects} connections")
    await pool.close()
    await listening.stopListening()


if __name__ == "__main__":
    react(main, [])
