"""The connections of one manager: who makes, checks, orders and keeps them, and when they end."""

__all__ = ()
