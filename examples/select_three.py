"""Requests choose among three backends with their own balancer, and avoid one that is down.

If the chosen backend has no connection ready, the request waits for all three. If a connect fails,
another backend is tried.

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

from kolus import Backend, Group, Policy, Pool, Status

REQUESTS = 90


def shortest_queue(statuses: Sequence[Status]) -> Status:
    """Choose the backend with the fewest requests; the first of equals."""
    return min(statuses, key=lambda status: status.leased + status.waiting)


async def ask(group: Group[MemCacheProtocol]) -> Backend:
    """Ask one backend.

    @return: the one that answered.
    """
    async with group.connect("asking") as lease:
        await lease.protocol.version()
        return lease.backend


async def main(reactor: Any, backends: list[Backend]) -> None:
    pool = Pool(reactor, MemCacheProtocol, policy=Policy(limit=5))
    group: Group[MemCacheProtocol] = pool.group(backends, shortest_queue)
    try:
        requests = [Deferred.fromCoroutine(ask(group)) for _ in range(REQUESTS)]
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
