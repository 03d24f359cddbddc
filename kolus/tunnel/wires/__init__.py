"""The fast data path: plain sockets, watched by an epoll, without transports of Twisted."""

__all__ = ()
