"""How a backend is reached: endpoint strings, host names and their addresses.

It knows nothing of pools and backends. Of kolus it may import C{errors} and C{support}, and no
other module.
"""

from kolus.endpoints.from_string import (
    check_endpoint_string,
    endpoint_from_string,
    is_of_plugin,
    what_is_unverified,
)
from kolus.endpoints.hosts import Hosts
from kolus.endpoints.machine import TIME_OUTS, machine_fault
from kolus.endpoints.named import NamedEndpoint

__all__ = [
    "TIME_OUTS",
    "Hosts",
    "NamedEndpoint",
    "check_endpoint_string",
    "endpoint_from_string",
    "is_of_plugin",
    "machine_fault",
    "what_is_unverified",
]
