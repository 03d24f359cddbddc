"""What becomes of a pool that nobody refers to any more, though it was not closed.

Its connections would end by their idle time-out, if the policy had no C{min_idle}: that is kept
ready for ever, for nobody. So its backends are drained, and the log says why.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from kolus.support import SteadyClock, steady

if TYPE_CHECKING:
    from kolus.manager import Managers

__all__ = ["let_go_with"]

_PAUSE = 1.0
_log = Logger()


def let_go_with(pool: object, managers: Managers, reactor: Any) -> None:
    """Drain the managers when C{pool} is garbage.

    @param managers: nothing that they refer to refers to C{pool}.
    """
    # A finalizer runs in any thread and in the middle of any code, so it only schedules the rest.
    clock = steady(reactor)
    let_go = partial(clock.call_from_any_thread, _let_go, managers, clock)
    weakref.finalize(pool, lambda: let_go() if managers.at else None).atexit = False


def _let_go(managers: Managers, clock: SteadyClock, *, is_told: bool = False) -> None:
    if managers.closed or managers.process.is_foreign:
        return
    left = tuple(managers)
    if left and not is_told:
        _log.warn(
            "a pool with connections to {backends} is forgotten: nobody refers to it, and it was "
            "not closed; they are closed now, or when they are released. Keep a pool for as long "
            "as it is used, and then call pool.close()",
            backends=", ".join(sorted({str(each.backend) for each in left})),
        )
    for each in left:
        if not each.status().waiting:  # who asked while there was a pool is served
            each.drain()
    if any(each.status().waiting for each in left):
        clock.callLater(_PAUSE, partial(_let_go, managers, clock, is_told=True))
