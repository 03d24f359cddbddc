"""C{reload_on_hangup}: SIGHUP has the daemon read its configuration again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

__all__ = ["reload_on_hangup"]


def reload_on_hangup(reactor: Any, reload: Callable[[], object]) -> None:
    """Reload at each SIGHUP, instead of dying of it. Platforms without that signal are left alone.

    @param reload: is called by the reactor, not in the middle of something else.
    """
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None:
        signal.signal(hangup, lambda *_: reactor.callFromThread(reload))
