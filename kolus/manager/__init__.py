"""One backend's connections for one ident, and what the managers of a backend have in common.

It knows nothing of groups and pools, but for the queues that it serves besides its own.
"""

from kolus.manager.connection import Connection
from kolus.manager.exclusive import ConnectionManager
from kolus.manager.leasing_manager import LeasingManager
from kolus.manager.managers import MakeManager, Managers
from kolus.manager.prober import Prober
from kolus.manager.protocol_factory import protocol_factory
from kolus.manager.record import BackendRecord
from kolus.manager.records import Records
from kolus.manager.shared import SharedManager
from kolus.manager.shared_queue import SharedQueue
from kolus.manager.snapshots import Snapshots
from kolus.manager.waiters import Tried, Waiter

__all__ = [
    "BackendRecord",
    "Connection",
    "ConnectionManager",
    "LeasingManager",
    "MakeManager",
    "Managers",
    "Prober",
    "Records",
    "SharedManager",
    "SharedQueue",
    "Snapshots",
    "Tried",
    "Waiter",
    "protocol_factory",
]
