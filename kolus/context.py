"""C{ConnectContext}: what an attempt to connect is for, told to the user's code in it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["ConnectContext"]


@dataclass(frozen=True, slots=True)
class ConnectContext:
    """An attempt to connect. C{Policy(prepare=...)} and the callable of a C{Backend} may take it.

    It serves to choose credentials, for example: each attempt may have others.
    """

    ident: Hashable
    """Whom the connection is for."""
    backend: Backend
    """The backend."""
    attempt: int
    """1 if the attempt before succeeded, or if there was none; one more for each that failed."""
    generation: int
    """Grows with each C{invalidate}: what was kept of older generations is to be read anew."""
