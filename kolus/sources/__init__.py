"""Sources: who the backends are, over time.

Each provides C{ISource}. C{StaticSource} has a list, C{FileSource} follows a file, C{DNSSource}
asks for a name's records, and C{source_from_string} makes one of what a command line says, as does
C{name_server_from_string} of whom to ask. C{HostResolver} asks the same for the names of hosts.
"""

from kolus.sources.dns import DNSSource
from kolus.sources.file import FileSource
from kolus.sources.from_string import name_server_from_string, source_from_string
from kolus.sources.host_resolver import HostResolver
from kolus.sources.static import StaticSource

__all__ = [
    "DNSSource",
    "FileSource",
    "HostResolver",
    "StaticSource",
    "name_server_from_string",
    "source_from_string",
]
