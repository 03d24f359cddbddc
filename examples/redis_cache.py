"""Many tasks use Redis as a cache. Their commands share a few connections.

Start a redis-server, then: python examples/redis_cache.py tcp:127.0.0.1:6379
"""

from __future__ import annotations

import argparse
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import react

from kolus import Backend, Policy
from kolus.clients.redis import RedisPool

TASKS = 200
DATABASE = 5


async def square(redis: RedisPool, number: int) -> bool:
    """Look up a square in the cache; if it is not there, store it for a minute.

    @return: whether it was in the cache.
    """
    if await redis.get(f"square:{number}") is not None:
        return True
    await redis.set(f"square:{number}", number * number, expire=60)
    return False


async def main(reactor: Any, backend: Backend) -> None:
    policy = Policy(limit=5, slots=20)  # twenty commands at a time on each connection
    redis = RedisPool(reactor, backend, database=DATABASE, policy=policy)
    try:
        for look in "first", "second":
            tasks = [Deferred.fromCoroutine(square(redis, number % 50)) for number in range(TASKS)]
            found = await gatherResults(tasks, consumeErrors=True)
            print(f"{look} look: {sum(found)} of {TASKS} were there")
        counters = redis.pool.counters()
        print(f"{counters.leases} commands on {counters.connects} connections")
    except FirstError as error:
        raise SystemExit(error.subFailure.getErrorMessage()) from error
    finally:
        await redis.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", type=Backend, help="an endpoint, such as tcp:127.0.0.1:6379")
    react(main, [parser.parse_args().backend])
