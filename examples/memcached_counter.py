"""Many tasks increment a counter in memcached, and share a few connections.

Start a memcached, then: python examples/memcached_counter.py tcp:127.0.0.1:11211
"""

from __future__ import annotations

import argparse
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.protocols.memcache import MemCacheProtocol

from kolus import Backend, KolusError, Policy, Pool

TASKS = 200


async def answers(memcache: MemCacheProtocol) -> None:
    """Check a connection after an idle time: an exception means that it is dead."""
    await memcache.version()


async def count(pool: Pool[MemCacheProtocol], backend: Backend) -> None:
    """Add one to the counter."""
    async with pool.connect("counting", backend) as lease:
        await lease.protocol.increment(b"counter")


async def main(reactor: Any, backend: Backend) -> None:
    policy = Policy(limit=4, check=answers)
    pool = Pool(reactor, MemCacheProtocol, policy=policy)
    try:
        async with pool.connect("counting", backend) as lease:
            await lease.protocol.set(b"counter", b"0")
        tasks = [Deferred.fromCoroutine(count(pool, backend)) for _ in range(TASKS)]
        await gatherResults(tasks, consumeErrors=True)
        async with pool.connect("counting", backend) as lease:
            _, counted = await lease.protocol.get(b"counter")
        print(f"counted to {int(counted)} on {pool.counters().connects} connections")
    except KolusError as error:
        raise SystemExit(str(error)) from error
    finally:
        await pool.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", type=Backend, help="an endpoint, such as tcp:127.0.0.1:11211")
    react(main, [parser.parse_args().backend])
