"""Many tasks increment a counter in memcached, and share a few connections.

Start a memcached, then: python examples/memcached_counter.py tcp:127.0.0.1:11211
"""

from __future__ import annotations

import argparse
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import react

from kolus import Backend, KolusError, Policy
from kolus.clients.memcached import MemcachedPool

TASKS = 200


async def main(reactor: Any, backend: Backend) -> None:
    cache = MemcachedPool(reactor, [backend], policy=Policy(limit=4, slots=10))
    try:
        await cache.set(b"counter", b"0")
        await gatherResults([cache.increment(b"counter") for _ in range(TASKS)])
        _, counted = await cache.get(b"counter")
        print(f"counted to {int(counted)} on {cache.pool.counters().connects} connections")
    except KolusError as error:
        raise SystemExit(str(error)) from error
    finally:
        await cache.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", type=Backend, help="an endpoint, such as tcp:127.0.0.1:11211")
    react(main, [parser.parse_args().backend])
