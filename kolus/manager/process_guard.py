"""C{ProcessGuard}: keeps a forked child from using what its parent made."""

from __future__ import annotations

import os
from collections.abc import Callable

from kolus.errors import LeaseError
from kolus.support import after_fork

__all__ = ["ProcessGuard"]


class ProcessGuard:
    """Knows which process something belongs to.

    @ivar is_foreign: whether this process is a child that was forked from that process.
    """

    def __init__(self, name: Callable[[], str], forked: Callable[[], object]) -> None:
        """
        @param name: what messages call the thing that is guarded.
        @param forked: called in a forked child.
        """
        self.is_foreign = False
        self._name = name
        self._told = forked
        self._process = os.getpid()

    def begin(self) -> None:
        """From now on the thing belongs to this process, and to no child of it."""
        self._process = os.getpid()
        after_fork(self)

    def forked(self) -> None:
        """Called in a forked child."""
        self.is_foreign = True
        self._told()

    def message(self) -> str:
        """Why a forked child cannot use it."""
        return f"process {os.getpid()} cannot use {self._name()}: process {self._process} made it"

    def check(self) -> None:
        """
        @raise LeaseError: this process is a forked child.
        """
        if self.is_foreign:
            raise LeaseError(self.message())
