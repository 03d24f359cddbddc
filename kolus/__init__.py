"""A protocol-level connection pooler and balancer for Twisted."""

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
