"""What belongs to one backend and is shared by all its managers: limit, load, turns, failures."""

__all__ = ()
