"""A manager that C{warm} made for no ident is given to the first ident that asks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["give", "is_unclaimed"]


def is_unclaimed(manager: BaseManager[Any]) -> bool:
    """Whether a manager may be given to any ident: nobody has used its connections, nobody waits,
    and nothing was told whom they are for."""
    return not (
        manager.lifecycle.refusal
        or manager.demand()
        or manager.hooks.tells_context
        or manager.backend.makes_endpoints
        or any(each.uses for each in manager.connections.all)
    )


def give(manager: BaseManager[Any], ident: Hashable) -> None:
    """A manager is for this ident from now on."""
    manager.ident = manager.recorder.ident = manager.record.last_ident = ident
    manager.record.changed(manager)
