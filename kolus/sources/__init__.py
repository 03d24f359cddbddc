"""Service discovery: which backends a group has, and how that list changes over time.

Each source provides C{ISource}. C{StaticSource} has a fixed list, C{FileSource} follows a file, and
C{DNSSource} follows the records of a DNS name. C{source_from_string} and C{name_server_from_string}
parse the options of a command line. The source behind a C{SourceSwitch} can be replaced.
C{HostResolver} resolves host names at chosen name servers.
This package knows backends, and nothing of pools, groups or managers.
"""

from kolus.sources.dns import DNSSource
from kolus.sources.entries import backend_from_entry
from kolus.sources.file import FileSource, check_file
from kolus.sources.from_string import name_server_from_string, source_from_string
from kolus.sources.host_resolver import HostResolver
from kolus.sources.static import StaticSource
from kolus.sources.switch import SourceSwitch
from kolus.sources.weighted import WeightedSource

__all__ = [
    "DNSSource",
    "FileSource",
    "HostResolver",
    "SourceSwitch",
    "StaticSource",
    "WeightedSource",
    "backend_from_entry",
    "check_file",
    "name_server_from_string",
    "source_from_string",
]
