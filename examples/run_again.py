"""A function that may be repeated survives a backend that has closed its idle connections.

Start a memcached, then: python examples/run_again.py tcp:127.0.0.1:11211
"""

from __future__ import annotations

import argparse
from typing import Any

from twisted.internet.task import deferLater, react
from twisted.protocols.memcache import MemCacheProtocol

from kolus import Backend, KolusError, Policy, Pool

KEYS = [f"key:{number}".encode() for number in range(20)]


async def fill(memcache: MemCacheProtocol) -> None:
    for key in KEYS:
        await memcache.set(key, key.upper())


async def read(memcache: MemCacheProtocol) -> int:
    """Reading twice does no harm, so this is idempotent.

    @return: how many keys were found.
    """
    found = await memcache.getMultiple(KEYS)
    return sum(value is not None for _, value in found.values())


async def main(reactor: Any, backend: Backend, pause: float) -> None:
    pool = Pool(reactor, MemCacheProtocol, policy=Policy(limit=5))
    try:
        await pool.warm(backend, 2, 5.0, ident="reader")
        await pool.run("reader", backend, fill)
        for _ in range(3):
            # If the backend restarts in the pause, the idle connections end, and it is empty.
            await deferLater(reactor, pause)
            found = await pool.run("reader", backend, read, idempotent=True, timeout=5.0)
            print(f"{found} of {len(KEYS)} keys were there")
        print(f"{pool.counters().leases} leases on {pool.counters().connects} connections")
    except KolusError as error:
        raise SystemExit(str(error)) from error
    finally:
        await pool.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", type=Backend, help="an endpoint, such as tcp:127.0.0.1:11211")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two reads")
    react(main, [*vars(parser.parse_args()).values()])
