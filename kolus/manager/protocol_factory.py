"""C{protocol_factory}: lets a pool use a library's own factory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory

__all__ = ["protocol_factory"]


def protocol_factory(factory: IProtocolFactory) -> Callable[[], Any]:
    """Turn a library's own factory into what C{Pool} takes.

    The factory is started once, now, and is given no address, since a pool's connections have
    none that matters.

    @raise TypeError: C{factory} is no C{IProtocolFactory}.
    """
    if not IProtocolFactory.providedBy(factory):
        raise TypeError(f"not an IProtocolFactory: {factory!r}")
    factory.doStart()

    def build() -> Any:
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        if protocol is None:
            raise ValueError(f"{factory!r} built no protocol")
        return protocol

    return build
