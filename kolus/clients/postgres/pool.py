"""C{PostgresPool}: a pool of psycopg's connections to the servers that a conninfo names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from twisted.internet.defer import Deferred

from kolus.backend import Backend
from kolus.balance import Balancer, fill_first
from kolus.clients.client import Client, without_slots
from kolus.clients.postgres.block import PostgresBlock
from kolus.clients.postgres.connection import Connection
from kolus.clients.postgres.endpoint import PostgresEndpoint
from kolus.clients.postgres.session import Session, Settings
from kolus.events import Observer
from kolus.group import Group
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.status import Status
from kolus.watching import Owner

__all__ = ["PostgresPool"]

_IDENT = "postgres"


class PostgresPool(Client):
    """Pooled connections to PostgreSQL: C{async with pool.connection() as conn:}.

    If the conninfo names several hosts, each is a backend of its own, with its own limit and
    health. C{target_session_attrs} says which of them serve, and C{load_balance_hosts=random} that
    they share the load; otherwise the first that works is preferred, as by libpq.

    @ivar group: its backends.
    """

    group: Group[Session]

    def __init__(
        self,
        reactor: Any,
        conninfo: str = "",
        *,
        policy: Policy | None = None,
        password: Callable[[], Any] | None = None,
        autocommit: bool = False,
        row_factory: Any = tuple_row,
        prepare_threshold: int | None = 5,
        discard: bool = False,
        prepare: Callable[[Connection[Any]], Any] | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        """
        @param reactor: provides C{IReactorFDSet}, as those of Twisted do.
        @param conninfo: a conninfo string or a URL of libpq. What it does not say comes from the
            environment (C{PGHOST} and so on), as libpq has it.
        @param policy: all settings of the pool; C{Policy()} if C{None}. Its hooks are called with a
            C{Session}, and take the place of those that are built in: C{prepare} applies the
            settings here, C{check} sends an empty query, C{reset} ends what a lessee left open.
        @param password: called for each new connection. It gives the password, or a Deferred or a
            coroutine of it, so that one that changes is read anew.
        @param autocommit: whether each statement is a transaction of its own.
        @param row_factory: makes the rows of results, as psycopg has it.
        @param prepare_threshold: after how many executions a query is prepared on the server;
            C{None}: never, for a pooler such as pgbouncer in between.
        @param discard: whether C{DISCARD ALL} is sent whenever a lease ends, which costs a turn to
            the server. Without it only an open transaction is rolled back: what a lessee has SET
            or LISTENs to stays.
        @param prepare: called once with each new connection of psycopg; it may return an
            awaitable. A transaction that it leaves open is rolled back.
        @raise ValueError: the conninfo cannot be parsed, or contradicts itself.
        @raise TypeError: it is no string, such as C{None} from the environment.
        """
        if not isinstance(conninfo, str):
            raise TypeError(f"conninfo must be a string, not {type(conninfo).__name__}")
        try:
            parameters = {key: value for key, value in conninfo_to_dict(conninfo).items() if value}
        except ProgrammingError:
            # libpq's own words may have a part of the password in them.
            raise ValueError(
                "conninfo cannot be parsed: write host=HOST port=PORT dbname=NAME user=USER, or "
                "postgresql://USER@HOST:PORT/NAME; quote values that have blanks in them"
            ) from None
        known = _defaults() | parameters
        role = known.get("target_session_attrs") or "any"
        if role == "prefer-standby":
            parameters["target_session_attrs"] = "any"
        settings = Settings(
            autocommit=autocommit,
            row_factory=row_factory,
            prepare_threshold=prepare_threshold,
            discard=discard,
            prepare=prepare,
        )

        async def get() -> dict[str, Any]:
            if password is None:
                return parameters
            given = password()
            return parameters | {"password": await given if hasattr(given, "__await__") else given}

        policy = settings.policy(without_slots(policy, Policy()))
        self.pool: Pool[Session] = Pool(reactor, Session, policy=policy, observers=observers)
        database = known.get("dbname") or known.get("user") or "postgres"
        backends = [
            Backend(
                PostgresEndpoint(reactor, host, port, get, address),
                name=f"{host or 'local'}:{port}/{database}",
            )
            for host, address, port in _hosts(known)
        ]
        spread = known.get("load_balance_hosts") == "random"
        choose: Balancer = self.pool.policy.balancer if spread else fill_first
        if role == "prefer-standby":
            choose = _standby_first(choose)
        self.group = self.pool.group(backends, choose, name="postgres")
        self._only = backends[0] if len(backends) == 1 else None

    def connect(
        self, *, timeout: float | None = None, owner: Owner | None = None
    ) -> Deferred[Lease[Session]]:
        """Ask for a lease; C{lease.protocol.connection} is psycopg's connection.

        See L{Group.connect}. C{connection} does the same, and ends the transaction, too.
        """
        if self._only is not None:
            return self.pool.connect(_IDENT, self._only, timeout=timeout, owner=owner)
        return self.group.connect(_IDENT, timeout=timeout, owner=owner)

    def connection(
        self, *, timeout: float | None = None, owner: Owner | None = None
    ) -> PostgresBlock:
        """A connection for a block: C{async with pool.connection() as conn:}.

        At the end of the block the transaction is committed, or rolled back if the block raised.

        @param timeout: seconds until C{LeaseTimeout}; the policy's if C{None}.
        """
        return PostgresBlock(partial(self.connect, timeout=timeout, owner=owner))


def _defaults() -> dict[str, Any]:
    """What libpq takes where a conninfo is silent."""
    options = pq.Conninfo.get_defaults()
    return {each.keyword.decode(): each.val.decode() for each in options if each.val}


def _hosts(known: dict[str, Any]) -> Sequence[tuple[str, str, int]]:
    """Each host with its address, if that is given, and its port."""
    hosts = str(known.get("host") or "").split(",")
    addresses = str(known.get("hostaddr") or "").split(",")
    ports = str(known.get("port") or 5432).split(",")
    count = max(len(hosts), len(addresses))
    lists = []
    for name, each in (("host", hosts), ("hostaddr", addresses), ("port", ports)):
        if len(each) not in (1, count):
            raise ValueError(f"conninfo has {count} hosts, but {len(each)} of {name}")
        lists.append(each * (count // len(each)))
    try:
        return [
            (host, address, int(port or 5432)) for host, address, port in zip(*lists, strict=True)
        ]
    except ValueError:
        raise ValueError(f"port in conninfo must be numbers, not {known.get('port')!r}") from None


def _standby_first(then: Balancer) -> Balancer:
    """Choose a standby while one takes requests. A server whose role nobody knows yet may be one,
    and is known when it has been connected to."""

    def choose(statuses: Sequence[Status]) -> Status:
        for role in (True, None):
            its = [each for each in statuses if each.takes_requests and _role_of(each) is role]
            if its:
                return then(its)
        return then(statuses)

    choose.prefers = True  # type: ignore[attr-defined]
    return choose


def _role_of(status: Status) -> bool | None:
    endpoint: Any = status.backend.endpoint
    return endpoint.is_standby  # type: ignore[no-any-return]
