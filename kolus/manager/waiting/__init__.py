"""The requests that wait: a manager's own queue, the queues of groups, and fresh connections."""

__all__ = ()
