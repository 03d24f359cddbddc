"""C{protocol_factory}: adapts a Twisted factory to C{Pool}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory

__all__ = ["protocol_factory"]


def protocol_factory(factory: IProtocolFactory) -> Callable[[], Any]:
    """Turn a Twisted factory into the callable without arguments that C{Pool} takes.

    The factory is started once, now. Its C{buildProtocol} gets C{None} instead of an address.

    @return: builds a protocol; raises C{ValueError} if the factory builds none.
    @raise TypeError: C{factory} is not an C{IProtocolFactory}.
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
