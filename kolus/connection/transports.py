"""Finds out whether a transport can still be used, before it reports C{connectionLost}.

A transport does not report that its C{loseConnection} was called: one has to look at it each time.
That is too slow for each lease, so C{tell_before} makes the transport report such calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from twisted.protocols.policies import ProtocolWrapper

from kolus.connection.process_pipes import pipes_of

__all__ = ["is_ending", "is_sound", "layers", "stop_telling", "tell_before", "telling"]

_telling: dict[type, type | None] = {}
_born_telling: set[type] = set()
_NOTHING: dict[str, object] = {}


class Doubter(Protocol):
    """Has a transport, and must look at it again while C{doubtful} is true.

    @ivar doubtful: C{True}; C{False}; or the transport that was paused, if that is the only reason.
    """

    doubtful: Any


def tell_before(transport: Any, doubter: Doubter) -> bool:
    """Make C{doubter} doubtful before a method in C{_TOLD} of the transport, or of a transport that
    it wraps, is called.

    This replaces its class by a subclass of the same name. Attributes of the instance would do the
    same, but take 700 bytes a connection. To look at the transport each time makes a lease a third
    slower over TCP, and five times as slow through a wrapper such as TLS.

    @return: whether that is possible. If not, the doubter must look each time.
    """
    if type(transport) in _born_telling and transport._kolus_doubter is _NoDoubter:
        transport._kolus_doubter = doubter
        return True
    found = layers(transport)
    classes: list[Any] = []
    for each in found:
        telling = _telling_class(type(each))
        if telling is None or not getattr(each, "__dict__", _NOTHING).keys().isdisjoint(_TOLD):
            return False
        classes.append(telling)
    try:
        for layer, telling in zip(found, classes, strict=True):
            layer._kolus_doubter = doubter
            layer.__class__ = telling
            # CPython is slow to find attributes in the dict of an object whose class was changed.
            layer.__dict__ = dict(vars(layer))
    except (AttributeError, TypeError):
        return False
    return not getattr(found[0], "TLS", False)  # after STARTTLS, Twisted bypasses the methods


def telling(kind: type) -> Any:
    """The class of transports that are made to report such calls: C{tell_before} replaces nothing.

    @param kind: their class: not that of a wrapper, nor one that can do C{startTLS}.
    """
    made = _telling_class(kind)
    assert made is not None, f"{kind!r} can be closed in other ways"
    _born_telling.add(made)
    return made


def stop_telling(transport: Any, *, for_good: bool = False) -> None:
    """Drop the transport's reference to the doubter.

    @param for_good: whether the transport lives on without it, and gets its own class back."""
    for layer in layers(transport):
        del layer._kolus_doubter
        if for_good and "_kolus_doubter" in vars(type(layer)):
            layer.__class__ = type(layer).__base__


class _NoDoubter:
    """Stands for a doubter that has no transport any more."""

    doubtful = True


def layers(transport: Any) -> list[Any]:
    """The transport, the transport that it wraps, and so on."""
    found = [transport]
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
        found.append(transport)
    return found


def _telling_class(kind: type) -> type | None:
    """The subclass that reports calls; C{None} if such transports can be closed in other ways."""
    if kind not in _telling:
        _telling[kind] = _make_telling(kind) if _is_known(kind) else None
    return _telling[kind]


def _is_known(kind: type) -> bool:
    """Whether only methods of the class itself change its state: C{disconnecting} is not computed
    by a property, and unknown attributes are not those of another object."""
    if hasattr(kind, "_kolus_doubter"):
        return False  # it reports to another doubter
    made_up = isinstance(inspect.getattr_static(kind, "disconnecting", None), property)
    passes_on = hasattr(kind, "__getattr__") and not issubclass(kind, ProtocolWrapper)
    return hasattr(kind, "loseConnection") and not made_up and not passes_on


def _make_telling(kind: type) -> type:
    made: dict[str, Any] = {
        name: tell(getattr(kind, name)) for name, tell in _TOLD.items() if hasattr(kind, name)
    }
    made |= {
        "_kolus_doubter": _NoDoubter,
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


def _telling_pause(method: Callable[..., object]) -> Callable[..., object]:
    def told(self: Any) -> object:
        doubter = self._kolus_doubter
        if not doubter.doubtful:
            doubter.doubtful = self
        return method(self)

    return told


def _telling_resume(method: Callable[..., object]) -> Callable[..., object]:
    def told(self: Any) -> object:
        doubter = self._kolus_doubter
        if doubter.doubtful is self:
            doubter.doubtful = False
        return method(self)

    return told


_TOLD = {
    "abortConnection": _telling_method,
    "loseConnection": _telling_method,
    "loseWriteConnection": _telling_method,
    "pauseProducing": _telling_pause,
    "registerProducer": _telling_method,
    "resumeProducing": _telling_resume,
    "startTLS": _telling_method,
    "stopProducing": _telling_method,
    "stopReading": _telling_pause,
}
"""The methods whose call may leave a transport unfit for the next lessee, or ends that: a protocol
may pause its transport and resume it for each answer."""


def is_sound(transport: Any, producing: bool = False) -> bool:
    """Whether it is open, was not told to close, and has no producer.

    A protocol may change that at any time, on its own timer for example. No public attribute shows
    an abort, or that one half is being closed, until the transport reports it, at least one turn of
    the reactor later. So private attributes are read, too.

    @param transport: C{None} if it is gone.
    @param producing: whether it may have a producer, since another lessee still uses it.
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
        writer = (pipes_of(transport) or {0: transport}).get(0)  # of a process, its input
        may_produce = producing or getattr(writer, "producer", None) is None
        return writer is not None and may_produce and not getattr(writer, "disconnecting", False)


def is_ending(transport: Any) -> bool:
    """Whether it is gone (C{None}), or will be soon by itself."""
    return transport is None or any(
        getattr(transport, each, False) for each in ("disconnecting", "_aborting")
    )
