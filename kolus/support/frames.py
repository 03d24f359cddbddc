"""The frames that an exception refers to by its traceback: shown while they are new, then let go.

An attempt to connect begins within somebody's call, so the frames of what it fails with lead back
to all that its caller has in its variables: leases, that would never be reclaimed, and owners. What
is kept of an attempt is kept until the next one, and without them.
"""

from __future__ import annotations

import traceback

from twisted.internet.defer import FirstError
from twisted.internet.error import ConnectError, ConnectionClosed

__all__ = ["let_go", "shown"]

_NOBODYS = {"OpenSSL", "kolus", "twisted"}


def shown(error: BaseException) -> str:
    """Where an exception was raised, for a log; nothing if no code of the user's had a part in it,
    as when a certificate is refused."""
    if isinstance(error, ConnectError | ConnectionClosed):
        return ""  # Twisted has one for all losses: it may have been raised by anybody
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _NOBODYS:
            return "".join(traceback.format_exception(error)).rstrip()
    return ""


def let_go(error: BaseException) -> None:
    """Let an exception, and those that it was raised from or is made of, refer to no frames.

    What it was raised in the handling of it forgets: that may be its caller's, who is about to show
    it with its traceback.
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        for name in ("__traceback__", "__context__"):
            BaseException.__setattr__(each, name, None)  # its class may refuse: a frozen dataclass
        left.append(each.__cause__)
        if isinstance(each, BaseExceptionGroup):
            left.extend(each.exceptions)
        elif isinstance(each, FirstError):
            failure = each.subFailure
            failure.frames = failure.frames  # their names and lines, which stay
            failure.tb = None
            left.append(failure.value)
