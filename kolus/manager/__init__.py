"""The managers, each with the connections of one backend for one ident, and the records they share.

This package knows leases, health and policies. It knows nothing of pools. Of groups it knows only
their queues, which a manager serves besides its own.
"""

from kolus.manager.backend.backend_status import backend_status
from kolus.manager.backend.load import Load
from kolus.manager.backend.prober import Prober
from kolus.manager.backend.record import BackendRecord
from kolus.manager.backend.records import Records
from kolus.manager.connections.warming import connect_from_the_start, warm_each
from kolus.manager.exclusive import ConnectionManager
from kolus.manager.managers import MakeManager, Managers
from kolus.manager.protocol_factory import protocol_factory
from kolus.manager.shared import SharedManager
from kolus.manager.waiting.asking import ask, ask_now
from kolus.manager.waiting.head_start import head_start
from kolus.manager.waiting.queue import Waiter, WaiterQueue, as_waiter

__all__ = [
    "BackendRecord",
    "ConnectionManager",
    "Load",
    "MakeManager",
    "Managers",
    "Prober",
    "Records",
    "SharedManager",
    "Waiter",
    "WaiterQueue",
    "as_waiter",
    "ask",
    "ask_now",
    "backend_status",
    "connect_from_the_start",
    "head_start",
    "protocol_factory",
    "warm_each",
]
