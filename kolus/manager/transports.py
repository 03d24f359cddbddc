"""What can be told about a transport before it tells itself.

A transport does not say when somebody tells it to close: one has to look at it, each time anew. A
lease has no time for that, so C{tell_before} makes the transport say it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.protocols.policies import ProtocolWrapper

__all__ = ["is_ending", "is_sound", "stop_telling", "tell_before"]

_TOLD = (
    "abortConnection",
    "loseConnection",
    "loseWriteConnection",
    "pauseProducing",
    "registerProducer",
    "startTLS",
    "stopProducing",
    "stopReading",
)
"""What a transport may be told that the next lessee has to be kept from."""

_telling: dict[type, type | None] = {}


class Doubter(Protocol):
    """Who has a transport, and is to look at it again."""

    doubtful: bool


def tell_before(transport: Any, doubter: Doubter) -> bool:
    """Make C{doubter} doubtful before the transport, or one that it wraps, is told one of C{_TOLD}.

    Its class is replaced by a subclass of the same name. Attributes of the instance would do the
    same for 700 bytes a connection; to look at the transport each time costs a lease a third more
    over TCP, and five times as much through a wrapper such as TLS.

    @return: whether that is possible. If not, the doubter has to look each time.
    """
    layers = list(_layers(transport))
    classes = [_telling_class(type(each)) for each in layers]
    own = [getattr(each, "__dict__", {}) for each in layers]
    if None in classes or any(not each.keys().isdisjoint(_TOLD) for each in own):
        return False
    try:
        for layer, telling in zip(layers, classes, strict=True):
            layer._kolus_doubter = doubter
            layer.__class__ = telling
    except (AttributeError, TypeError):
        return False
    return not getattr(layers[0], "TLS", False)  # after a STARTTLS, Twisted passes it by


def stop_telling(transport: Any) -> None:
    """The transport is gone: let its doubter go."""
    for layer in _layers(transport):
        del layer._kolus_doubter


class _Nobody:
    """Has no transport any more."""

    doubtful = True


def _layers(transport: Any) -> Iterator[Any]:
    """The transport, what it wraps, and so on."""
    yield transport
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
        yield transport


def _telling_class(kind: type) -> type | None:
    """A subclass that tells; C{None} if a transport of this class can be told in other ways."""
    if kind not in _telling:
        _telling[kind] = _make_telling(kind) if _is_known(kind) else None
    return _telling[kind]


def _is_known(kind: type) -> bool:
    """Whether its state is changed by its own methods alone: neither made up when it is looked at,
    nor that of something else, to which it passes on what it does not know."""
    if hasattr(kind, "_kolus_doubter"):
        return False  # it tells another
    made_up = isinstance(inspect.getattr_static(kind, "disconnecting", None), property)
    passes_on = hasattr(kind, "__getattr__") and not issubclass(kind, ProtocolWrapper)
    return hasattr(kind, "loseConnection") and not made_up and not passes_on


def _make_telling(kind: type) -> type:
    made: dict[str, Any] = {
        name: _telling_method(getattr(kind, name)) for name in _TOLD if hasattr(kind, name)
    }
    made |= {
        "_kolus_doubter": _Nobody,
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    return type(kind)(kind.__name__, (kind,), made)


def _telling_method(method: Callable[..., object]) -> Callable[..., object]:
    def told(self: Any, *arguments: object, **keywords: object) -> object:
        self._kolus_doubter.doubtful = True
        return method(self, *arguments, **keywords)

    return told


def is_sound(transport: Any, producing: bool = False) -> bool:
    """Whether it is open, nobody has told it to close, and nobody has left a producer with it.

    A protocol may do that at any time, on a timer of its own for example. Of an abort, and of
    closing one half, nothing public tells before the transport does so itself, a turn of the
    reactor later at the earliest.

    @param transport: C{None} if it is gone.
    @param producing: whether it may have a producer, since somebody else still uses it.
    """
    try:
        return not (
            transport.disconnecting
            or transport._aborting
            or transport._writeDisconnecting
            or (transport.producer is not None and not producing)
            or (transport.TLS and transport.protocol.disconnecting)
        )
    except AttributeError:
        return transport is not None and not getattr(transport, "disconnecting", False)


def is_ending(transport: Any) -> bool:
    """Whether it is gone, C{None} then, or will be soon without anybody's doing."""
    return transport is None or any(
        getattr(transport, each, False) for each in ("disconnecting", "_aborting")
    )
