"""The managers, each with the connections of one backend for one ident, and the records they share.

This package knows leases, health and policies. It knows nothing of pools. Of groups it knows only
their queues, which a manager serves besides its own.
"""

from kolus.manager.asking import ask, ask_now
from kolus.manager.backend_status import backend_status
from kolus.manager.connection import Connection
from kolus.manager.exclusive import ConnectionManager
from kolus.manager.hearing import Hearing
from kolus.manager.load import Load
from kolus.manager.managers import MakeManager, Managers
from kolus.manager.prober import Prober
from kolus.manager.protocol_factory import protocol_factory
from kolus.manager.queue import Waiter, WaiterQueue, as_waiter
from kolus.manager.record import BackendRecord, MakeEndpoint
from kolus.manager.records import Records
from kolus.manager.shared import SharedManager
from kolus.manager.warming import connect_from_the_start, warm_each

__all__ = [
    "BackendRecord",
    "Connection",
    "ConnectionManager",
    "Hearing",
    "Load",
    "MakeEndpoint",
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
    "protocol_factory",
    "warm_each",
]
