"""Asks a manager for a lease, of a fresh connection if the manager knows these."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from kolus.interfaces import IGivesFresh, IKolusManager
from kolus.lease import Lease
from kolus.manager.waiting.queue import Waiter, as_waiter
from kolus.support import check_flag
from kolus.watching import Owner

__all__ = ["ask", "ask_now"]


def ask(
    manager: IKolusManager,
    ident: Hashable,
    timeout: float | None,
    owner: Owner | None,
    fresh: bool,
) -> Waiter[Lease[Any]]:
    """As C{IKolusManager.connect}.

    @param fresh: whether the connection must never have been leased.
    @raise TypeError: C{fresh} is neither true nor false, or C{manager} does not provide
        L{IGivesFresh}, which it needs.
    """
    if fresh is False:
        return as_waiter(manager.connect(ident, timeout, owner))
    check_flag("fresh", fresh)
    return as_waiter(_giver(manager).connect(ident, timeout, owner, fresh=True))


def ask_now(
    manager: IKolusManager, ident: Hashable, owner: Owner | None, fresh: bool
) -> Lease[Any] | None:
    """As C{IKolusManager.try_connect}; the rest as C{ask}."""
    if fresh is False:
        return manager.try_connect(ident, owner)
    check_flag("fresh", fresh)
    return _giver(manager).try_connect(ident, owner, fresh=True)


def _giver(manager: IKolusManager) -> IGivesFresh:
    if not IGivesFresh.providedBy(manager):
        raise TypeError(f"fresh=True needs a manager that provides IGivesFresh, not {manager!r}")
    return manager
