"""A protocol-level connection pooler and balancer for Twisted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.context import ConnectContext
    from kolus.errors import (
        Closed,
        ConnectFailed,
        Draining,
        KolusError,
        LeaseError,
        LeaseTimeout,
        NoBackend,
        PoolFull,
        Rejected,
        WrongIdent,
    )
    from kolus.group import Group
    from kolus.health import Ejection
    from kolus.interfaces import IKolusManager, ISlots, ISource
    from kolus.lease import Lease
    from kolus.manager import ConnectionManager, SharedManager, protocol_factory
    from kolus.policy import Policy
    from kolus.pool import Pool
    from kolus.service import PoolService
    from kolus.status import GroupStatus, Status

__all__ = [
    "Backend",
    "Closed",
    "ConnectContext",
    "ConnectFailed",
    "ConnectionManager",
    "Draining",
    "Ejection",
    "Group",
    "GroupStatus",
    "IKolusManager",
    "ISlots",
    "ISource",
    "KolusError",
    "Lease",
    "LeaseError",
    "LeaseTimeout",
    "NoBackend",
    "Policy",
    "Pool",
    "PoolFull",
    "PoolService",
    "Rejected",
    "SharedManager",
    "Status",
    "WrongIdent",
    "protocol_factory",
]

_PLACES = {
    "kolus.backend": "Backend",
    "kolus.context": "ConnectContext",
    "kolus.errors": (
        "Closed ConnectFailed Draining KolusError LeaseError LeaseTimeout NoBackend PoolFull "
        "Rejected WrongIdent"
    ),
    "kolus.group": "Group",
    "kolus.health": "Ejection",
    "kolus.interfaces": "IKolusManager ISlots ISource",
    "kolus.lease": "Lease",
    "kolus.manager": "ConnectionManager SharedManager protocol_factory",
    "kolus.policy": "Policy",
    "kolus.pool": "Pool",
    "kolus.service": "PoolService",
    "kolus.status": "GroupStatus Status",
}
"""The modules of the public names. Each is imported when one of its names is asked for: what needs
none, as the command C{kolus}, then starts five times as fast."""


def _find(name: str) -> object:
    for module, names in _PLACES.items():
        if name in names.split():
            found = globals()[name] = getattr(import_module(module), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if not TYPE_CHECKING:  # a type checker would take any name for one that is there
    __getattr__ = _find


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
