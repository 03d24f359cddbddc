"""C{Certificate}: a certificate that a daemon shows, and when it expires."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Certificate"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that is shown to clients or to backends.

    @ivar user: whose it is, such as C{listener carts}.
    @ivar file: the file that has it.
    @ivar expires_at: seconds since 1970.
    @ivar is_due: whether it expires soon, so that there are warnings.
    """

    user: str
    file: str
    expires_at: float
    is_due: bool
