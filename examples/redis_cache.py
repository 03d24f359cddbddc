"""Many tasks use Redis as a cache, and share a few connections.

Start a redis-server, then: python examples/redis_cache.py tcp:127.0.0.1:6379
"""

from __future__ import annotations

import argparse
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import react
from txredisapi import RedisProtocol

from kolus import Backend, Policy, Pool

TASKS = 200
DATABASE = 5


async def choose_database(redis: RedisProtocol) -> None:
    """Prepare a new connection: called once, before its first lease."""
    await redis.select(DATABASE)


async def answers(redis: RedisProtocol) -> None:
    """Check a connection after an idle time: an exception means that it is dead."""
    await redis.ping()


async def square(pool: Pool[RedisProtocol], backend: Backend, number: int) -> bool:
    """Look up a square in the cache; if it is not there, store it for a minute.

    @return: whether it was in the cache.
    """
    async with pool.connect("squares", backend) as lease:
        redis = lease.protocol
        if await redis.get(f"square:{number}") is not None:
            return True
        await redis.set(f"square:{number}", number * number, expire=60)
        return False


async def main(reactor: Any, backend: Backend) -> None:
    policy = Policy(limit=5, prepare=choose_database, check=answers)
    # Use the protocol class: txredisapi's factory would keep each connection in its own pool.
    pool = Pool(reactor, RedisProtocol, policy=policy)
    try:
        for look in "first", "second":
            tasks = [
                Deferred.fromCoroutine(square(pool, backend, number % 50))
                for number in range(TASKS)
            ]
            found = await gatherResults(tasks, consumeErrors=True)
            print(f"{look} look: {sum(found)} of {TASKS} were there")
        print(f"{pool.counters().leases} leases on {pool.counters().connects} connections")
    except FirstError as error:
        raise SystemExit(error.subFailure.getErrorMessage()) from error
    finally:
        await pool.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", type=Backend, help="an endpoint, such as tcp:127.0.0.1:6379")
    react(main, [parser.parse_args().backend])
