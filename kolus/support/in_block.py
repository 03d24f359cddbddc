"""C{InBlock}: an asynchronous context manager that explains its misuse."""

from __future__ import annotations

from types import TracebackType
from typing import Any, ClassVar, NoReturn

__all__ = ["InBlock"]


class InBlock:
    """The mistakes that one makes with an asynchronous context manager are errors that say what to
    write.

    @cvar usage: what to write.
    """

    __slots__ = ()

    usage: ClassVar[str]

    def entered_again(self) -> RuntimeError:
        """The error of a block that is entered for the second time."""
        return RuntimeError(f"it can be entered only once; write each time: {self.usage}")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name!r} is not here; write: {self.usage}")

    def __await__(self) -> NoReturn:
        raise TypeError(f"it cannot be awaited; write: {self.usage}")

    def __enter__(self) -> NoReturn:
        raise TypeError(f"its block is asynchronous; write: {self.usage}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Never called: C{__enter__} raises."""
