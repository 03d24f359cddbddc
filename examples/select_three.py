"""Requests choose among three backends, by a balancer of one's own, and avoid one that is down.

Start three memcached, then:
python examples/select_three.py tcp:127.0.0.1:11211 tcp:127.0.0.1:11212 tcp:127.0.0.1:11213
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import react
from twisted.protocols.memcache import MemCacheProtocol

from kolus import Backend, ConnectFailed, Policy, Pool, Status

REQUESTS = 90


def shortest_queue(statuses: Sequence[Status]) -> Status:
    """Choose the backend with the fewest requests; the first that is named, if they are equal."""
    return min(statuses, key=lambda status: status.leased + status.waiting)


async def ask(pool: Pool[MemCacheProtocol], backends: list[Backend]) -> Backend:
    """Ask one backend, and another if that one cannot be reached.

    @return: the one that answered.
    """
    left = list(backends)
    while True:
        try:
            async with await pool.select("asking", left, shortest_queue) as lease:
                await lease.protocol.version()
                return lease.backend
        except ConnectFailed as error:
            left.remove(error.backend)
            if not left:
                raise


async def main(reactor: Any, backends: list[Backend]) -> None:
    pool = Pool(reactor, MemCacheProtocol, policy=Policy(limit=5, max_waiters=REQUESTS))
    try:
        requests = [Deferred.fromCoroutine(ask(pool, backends)) for _ in range(REQUESTS)]
        answered = Counter(await gatherResults(requests, consumeErrors=True))
        for backend in backends:
            print(f"{backend}: {answered[backend]} answers")
    except FirstError as error:
        raise SystemExit(error.subFailure.getErrorMessage()) from error
    finally:
        await pool.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "backends", type=Backend, nargs=3, help="endpoints, such as tcp:127.0.0.1:11211"
    )
    react(main, [parser.parse_args().backends])
