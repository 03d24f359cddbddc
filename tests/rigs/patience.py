"""How long tests wait for what must happen: no machine is so slow that it takes longer."""

from __future__ import annotations

__all__ = ["PATIENCE"]

PATIENCE = 300.0
"""Seconds after which what has not happened never will. A test that asserts how long something
takes does not use it."""
