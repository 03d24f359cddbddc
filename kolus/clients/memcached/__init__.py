"""memcached: calls share a few pipelined connections, and each key has its server."""

from kolus.clients.calls import WrongReply
from kolus.clients.memcached.pool import MemcachedPool

__all__ = ["MemcachedPool", "WrongReply"]
