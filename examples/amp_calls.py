"""A thousand calls share two connections, and their answers come in any order.

The example has its own server: python examples/amp_calls.py
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater, react
from twisted.protocols.amp import AMP, Command, Integer

from kolus import Policy
from kolus.clients.amp import AMPPool

CALLS = 1000


class Square(Command):
    """Asks for the square of a number."""

    arguments: ClassVar = [(b"number", Integer())]
    response: ClassVar = [(b"square", Integer())]


class Squares(AMP):
    """Answers after a random delay."""

    @Square.responder
    def square(self, number: int) -> Deferred[dict[str, int]]:
        from twisted.internet import reactor

        return deferLater(reactor, random.random() / 10, lambda: {"square": number * number})


async def main(reactor: Any) -> None:
    listening = reactor.listenTCP(0, Factory.forProtocol(Squares), interface="127.0.0.1")
    # Each connection carries up to 500 calls at a time; further calls wait for a slot.
    servers = [("127.0.0.1", listening.getHost().port)]
    pool = AMPPool(reactor, servers, policy=Policy(slots=500, limit=2))
    answers = await gatherResults([pool.callRemote(Square, number=n) for n in range(CALLS)])
    assert [answer["square"] for answer in answers] == [n * n for n in range(CALLS)]
    print(f"{CALLS} calls on {pool.pool.counters().connects} connections")
    await pool.close()
    await listening.stopListening()


if __name__ == "__main__":
    react(main, [])
