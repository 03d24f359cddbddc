"""A hundred transfers between accounts, each in a transaction, share five connections.

Start PostgreSQL, then: python examples/postgres_accounts.py "host=127.0.0.1 user=postgres"
"""

from __future__ import annotations

import argparse
import random
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import react

from kolus import KolusError, Policy
from kolus.clients.postgres import PostgresPool

TRANSFERS = 100
ACCOUNTS = 10


async def transfer(pool: PostgresPool, giver: int, taker: int, amount: int) -> None:
    """Move an amount. The block is a transaction: both updates happen, or none."""
    change = "update kolus_accounts set balance = balance + %s where number = %s"
    async with pool.connection() as connection:
        for number, sum_ in sorted([(giver, -amount), (taker, amount)]):
            await connection.execute(change, (sum_, number))


async def main(reactor: Any, conninfo: str) -> None:
    pool = PostgresPool(reactor, conninfo, policy=Policy(limit=5, acquire_timeout=30.0))
    try:
        async with pool.connection() as connection:
            await connection.execute("drop table if exists kolus_accounts")
            await connection.execute("create table kolus_accounts (number int, balance int)")
            accounts = [(number, 1000) for number in range(ACCOUNTS)]
            async with connection.cursor() as cursor:
                await cursor.executemany("insert into kolus_accounts values (%s, %s)", accounts)
        transfers = []
        for _ in range(TRANSFERS):
            giver, taker = random.sample(range(ACCOUNTS), 2)
            moving = transfer(pool, giver, taker, random.randrange(100))
            transfers.append(Deferred.fromCoroutine(moving))
        await gatherResults(transfers)
        async with pool.connection() as connection:
            rows = await connection.execute("select sum(balance) from kolus_accounts")
            (total,) = await rows.fetchone() or (0,)
            await connection.execute("drop table kolus_accounts")
        connects = pool.pool.counters().connects
        print(f"{TRANSFERS} transfers on {connects} connections, {total} in all accounts")
    except FirstError as error:
        raise SystemExit(error.subFailure.getErrorMessage()) from error
    except KolusError as error:
        raise SystemExit(str(error)) from error
    finally:
        await pool.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("conninfo", help='what libpq takes, such as "host=127.0.0.1 user=postgres"')
    react(main, [parser.parse_args().conninfo])
