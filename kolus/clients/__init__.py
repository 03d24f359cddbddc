"""Pools for what Twisted's users speak, each made in one line.

There is a module or a package for each protocol. It imports the library that it needs, so import
only the one that you use: C{from kolus.clients.postgres import PostgresPool}.
"""

__all__ = ()
