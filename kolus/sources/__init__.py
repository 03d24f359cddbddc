"""Sources: who the backends are, over time.

Each provides C{ISource}. C{StaticSource} has a list, C{FileSource} follows a file, C{DNSSource}
asks for a name's records, and C{source_from_string} makes one of what a command line says.
"""

from kolus.sources.dns import DNSSource
from kolus.sources.file import FileSource
from kolus.sources.from_string import source_from_string
from kolus.sources.static import StaticSource

__all__ = ["DNSSource", "FileSource", "StaticSource", "source_from_string"]
