"""C{Conninfo}: what a conninfo says of the servers, and of how they are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

__all__ = ["Conninfo"]


@dataclass(frozen=True, slots=True)
class Conninfo:
    """A conninfo as the pool understands it.

    @ivar parameters: the parameters of libpq for each connection.
    @ivar hosts: of each server its name, its address (empty if it is not given), and its port.
    @ivar database: the name of the database.
    @ivar spreads: whether the servers share the load; otherwise the first that works is preferred.
    @ivar prefers_standby: whether a standby is preferred.
    """

    parameters: Mapping[str, Any]
    hosts: tuple[tuple[str, str, int], ...]
    database: str
    spreads: bool
    prefers_standby: bool

    @classmethod
    def parse(cls, text: str) -> Conninfo:
        """
        @param text: a conninfo string or a URL of libpq. What it does not say comes from the
            environment.
        @raise ValueError: it cannot be parsed, or contradicts itself.
        @raise TypeError: it is no string.
        """
        if not isinstance(text, str):
            raise TypeError(
                "conninfo must be a string, such as 'host=127.0.0.1 user=postgres', not "
                f"{type(text).__name__}"
            )
        try:
            parameters = {key: value for key, value in conninfo_to_dict(text).items() if value}
        except ProgrammingError:
            # libpq's own words may have a part of the password in them.
            raise ValueError(
                "conninfo cannot be parsed: write host=HOST port=PORT dbname=NAME user=USER, or "
                "postgresql://USER@HOST:PORT/NAME; quote values that have blanks in them"
            ) from None
        known = _defaults() | parameters
        prefers_standby = known.get("target_session_attrs") == "prefer-standby"
        if prefers_standby:  # the pool chooses; libpq only sees one host at a time
            parameters["target_session_attrs"] = "any"
        return cls(
            parameters,
            _hosts(known),
            known.get("dbname") or known.get("user") or "postgres",
            known.get("load_balance_hosts") == "random",
            prefers_standby,
        )


def _defaults() -> dict[str, Any]:
    """What libpq takes where a conninfo is silent."""
    options = pq.Conninfo.get_defaults()
    return {each.keyword.decode(): each.val.decode() for each in options if each.val}


def _hosts(known: dict[str, Any]) -> tuple[tuple[str, str, int], ...]:
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
        numbers = [int(port or 5432) for port in lists[2]]
    except ValueError:
        raise ValueError(f"port in conninfo must be numbers, not {known.get('port')!r}") from None
    return tuple(zip(lists[0], lists[1], numbers, strict=True))
