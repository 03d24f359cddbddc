"""C{PostgresPool}: a pool of psycopg's connections to the servers that a conninfo names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from psycopg.rows import tuple_row
from twisted.internet.defer import Deferred

from kolus.backend import Backend
from kolus.balance import Balancer, fill_first
from kolus.clients.client import Client, without_slots
from kolus.clients.password import Password, ask_password, check_password
from kolus.clients.postgres.block import PostgresBlock
from kolus.clients.postgres.connection import Connection
from kolus.clients.postgres.conninfo import Conninfo
from kolus.clients.postgres.endpoint import PostgresEndpoint
from kolus.clients.postgres.session import Session, Settings
from kolus.errors import shown
from kolus.events import Observer
from kolus.group import Group
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.status import Status
from kolus.support import check_flag
from kolus.watching import Owner

__all__ = ["PostgresPool"]

_IDENT = "postgres"
_BLOCK = "async with pool.connection() as connection:"
_EXECUTE = f"{_BLOCK} await connection.execute(query)"
_INSTEAD = {
    **dict.fromkeys(("acquire", "cursor", "getconn", "runInteraction", "transaction"), _BLOCK),
    **dict.fromkeys(("execute", "fetch", "runOperation", "runQuery"), _EXECUTE),
}


class PostgresPool(Client):
    """Pooled connections to PostgreSQL: C{async with pool.connection() as conn:}.

    If the conninfo names several hosts, each is a backend of its own, with its own limit and
    health. C{target_session_attrs} says which of them serve, and C{load_balance_hosts=random} that
    they share the load; otherwise the first that works is preferred, as by libpq.

    @ivar group: its backends.
    """

    group: Group[Session]
    instead = _INSTEAD

    def __init__(
        self,
        reactor: Any,
        conninfo: str = "",
        *,
        policy: Policy | None = None,
        password: Password = None,
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
        @param password: if it is a function, it is called for each new connection. It gives the
            password, or a Deferred or a coroutine of it, so that one that changes is read anew.
        @param autocommit: whether each statement is a transaction of its own.
        @param row_factory: makes the rows of results, as psycopg has it.
        @param prepare_threshold: after how many executions a query is prepared on the server;
            C{None}: never, for a pooler such as pgbouncer in between.
        @param discard: whether C{DISCARD ALL} is sent whenever a lease ends, which costs a turn to
            the server. Without it only an open transaction is rolled back: what a lessee has SET
            or LISTENs to stays.
        @param prepare: called once with each new connection of psycopg; it may return an
            awaitable. A transaction that it leaves open is rolled back; with C{discard} what it
            has SET is lost, too.
        @raise ValueError: the conninfo cannot be parsed, or contradicts itself.
        @raise TypeError: it is no string, such as C{None} from the environment; or C{row_factory}
            is no function, C{password} is neither that nor a string, or C{autocommit} or
            C{discard} is neither true nor false.
        """
        check_flag("autocommit", autocommit)
        check_flag("discard", discard)
        check_password(password)
        parsed = Conninfo.parse(conninfo)
        if not callable(row_factory):
            raise TypeError(
                f"row_factory must be a function such as psycopg.rows.dict_row, not "
                f"{shown(row_factory)}"
            )
        settings = Settings(
            autocommit=autocommit,
            row_factory=row_factory,
            prepare_threshold=prepare_threshold,
            discard=discard,
            prepare=prepare,
        )
        policy = settings.policy(without_slots(policy, Policy()))
        self.pool: Pool[Session] = Pool(reactor, Session, policy=policy, observers=observers)
        get = partial(_with_password, parsed.parameters, password)
        backends = [
            Backend(
                PostgresEndpoint(reactor, host, port, get, address),
                name=f"{host or 'local'}:{port}/{parsed.database}",
            )
            for host, address, port in parsed.hosts
        ]
        choose: Balancer = self.pool.policy.balancer if parsed.spreads else fill_first
        if parsed.prefers_standby:
            choose = _standby_first(choose)
        self.group = self.pool.group(backends, choose, _IDENT, ident=_IDENT)
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


async def _with_password(parameters: Mapping[str, Any], password: Password) -> Mapping[str, Any]:
    given = await ask_password(password)
    return parameters if given is None else {**parameters, "password": given}


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
