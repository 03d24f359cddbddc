"""C{Backend}: a place to connect to, a frozen value."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IReactorPluggableNameResolver, IStreamClientEndpoint

from kolus.endpoints import Hosts, check_endpoint_string, endpoint_from_string, is_of_plugin
from kolus.errors import describe, hide_secrets, shown
from kolus.support import check_whole, fewest_arguments, name_of

if TYPE_CHECKING:
    from kolus.context import ConnectContext

__all__ = ["AnyBackend", "Backend", "Backends", "MakeEndpoint", "labelled", "named", "several"]


_LEAST_WEIGHT, _MOST_WEIGHT = 1e-6, 1e6
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Backend:
    """A place to connect to.

    Two backends with the same endpoint string are equal, whatever their name or weight, and a pool
    keeps one set of connections for both. A backend made from an endpoint object or from a callable
    equals only itself.

    Its C{str} and C{repr} do not show values whose names say that they are passwords or tokens.

    @ivar endpoint: a client endpoint string, an C{IStreamClientEndpoint}, or a pair C{(host,
        port)}. The pair is turned into the string C{tcp:host:port}. Or a callable that gives an
        endpoint or an endpoint string, or an awaitable of one. It is called for each connect,
        within its time-out, so that certificates and passwords that change are read anew. It is
        called without arguments if that is possible, otherwise with the L{ConnectContext}. If it
        raises, or gives something else, the attempt to connect has failed. What is known of the
        addresses of the hosts in its strings is kept, as it is for a string.
    @ivar name: the name that messages use; C{None}: the endpoint.
    @ivar limit: the maximum number of connections; C{None}: the policy's C{limit}.
    @ivar weight: its share of the load, relative to the other backends; from 0.000001 to 1000000.
        In this range, sums and ratios of thousands of weights lose no weight to rounding.
    @ivar zone: where it is, for balancers that prefer backends nearby.
    @ivar key: equal for equal backends. A pool finds what it has of a backend by it.
    @raise ValueError: the endpoint string cannot be parsed, or a value is out of its range.
    @raise TypeError: C{endpoint} is none of the four forms.
    """

    endpoint: str | IStreamClientEndpoint | Callable[..., object]
    _: KW_ONLY
    name: str | None = None
    limit: int | None = None
    weight: float = 1.0
    zone: str = ""
    key: Hashable = field(init=False, repr=False)

    def __post_init__(self) -> None:
        endpoint: Any = self.endpoint
        if isinstance(endpoint, tuple):
            endpoint = _tcp_string(endpoint)
            object.__setattr__(self, "endpoint", endpoint)
        if isinstance(endpoint, str):
            check_endpoint_string(endpoint)
            object.__setattr__(self, "key", endpoint)
        elif IStreamClientEndpoint.providedBy(endpoint) or _may_make_endpoints(endpoint):
            object.__setattr__(self, "key", object())
        else:
            is_several = isinstance(endpoint, list | set | dict) or hasattr(endpoint, "backends")
            hint = "; for several backends, see Pool.select and Pool.group" if is_several else ""
            raise TypeError(
                "not a backend: expected a client endpoint string, a (host, port) pair, an "
                "IStreamClientEndpoint, or a callable of at most one argument that gives one, got "
                f"{shown(endpoint)}{hint}"
            )
        if not (self.name is None or isinstance(self.name, str)):
            raise ValueError(f"name must be a string, not {self.name!r}")
        if self.name is not None and not (self.name and self.name.isprintable()):
            raise ValueError(f"name must have characters that can be printed, not {self.name!r}")
        if not isinstance(self.zone, str):
            raise ValueError(f"zone must be a string, not {self.zone!r}")
        check_whole("limit", self.limit, 1, optional=True)
        weight: Any = self.weight
        if (
            isinstance(weight, bool)
            or not isinstance(weight, int | float)
            or not _LEAST_WEIGHT <= weight <= _MOST_WEIGHT
        ):
            raise ValueError(
                f"weight must be a number from {_LEAST_WEIGHT:f} to {_MOST_WEIGHT:.0f}, "
                f"not {weight!r}"
            )

    def __deepcopy__(self, memo: object) -> Backend:
        return self  # a copy of one that was made from an object would be another backend

    @classmethod
    def of(cls, backend: AnyBackend) -> Backend:
        """The backend that an endpoint string or a pair stands for. A C{Backend} is returned as it
        is.

        @raise ValueError: the string or the pair cannot be parsed.
        @raise TypeError: it is none of these.
        """
        if isinstance(backend, cls):
            return backend
        if IStreamClientEndpoint.providedBy(backend) or callable(backend):
            raise TypeError(
                f"make one Backend of the endpoint {_text_of(backend)} and use it each time: two "
                "Backends made from one endpoint object are different backends"
            )
        return cls(backend)  # type: ignore[arg-type]

    @classmethod
    def key_of(cls, backend: AnyBackend) -> Hashable:
        """The key of the backend that C{of} returns. A string is not parsed.

        @raise ValueError: the pair is not C{(host, port)}.
        @raise TypeError: it is not a string, a pair or a C{Backend}.
        """
        if isinstance(backend, str):
            return backend
        return _tcp_string(backend) if isinstance(backend, tuple) else cls.of(backend).key

    def check(self, reactor: Any) -> None:
        """Check what could not be checked without a reactor: the arguments of a string that a
        plugin parses, such as C{tls}. Nothing is connected.

        @param reactor: one that resolves names; with any other, nothing is checked.
        @raise ValueError: as C{connector}.
        """
        if (
            isinstance(self.endpoint, str)
            and is_of_plugin(self.endpoint)
            and IReactorPluggableNameResolver.providedBy(reactor)
        ):
            self.connector(reactor)

    @property
    def makes_endpoints(self) -> bool:
        """Whether it was made from a callable that gives an endpoint for each connect."""
        endpoint = self.endpoint
        return callable(endpoint) and not IStreamClientEndpoint.providedBy(endpoint)

    async def endpoint_for(
        self, reactor: Any, context: ConnectContext, hosts: Hosts
    ) -> IStreamClientEndpoint:
        """The endpoint for one connect, from the callable that this backend was made from.

        @param hosts: what is known of the hosts in its strings.
        @raise RuntimeError: the callable raises. What it raises is the cause.
        @raise TypeError: it gives something else.
        @raise ValueError: it gives a string that is no client endpoint string. No error shows what
            it gives, for that may contain secrets.
        """
        make: Any = self.endpoint
        who = f"the callable {name_of(make)} that makes its endpoints"
        try:
            made = make(*(context,) if fewest_arguments(make, 0, 1) else ())
            if isawaitable(made):
                made = await made
        except CancelledError:
            raise
        except Exception as error:
            raise RuntimeError(f"{who} raised {describe(error)}") from error
        if isinstance(made, str):
            with suppress(ValueError):
                check_endpoint_string(made)
                return endpoint_from_string(reactor, made, hosts)
            raise ValueError(f"{who} gave a string that is not a client endpoint string")
        if not IStreamClientEndpoint.providedBy(made):
            kind = type(made).__name__
            raise TypeError(f"{who} gave an object of type {kind}, not an endpoint or a string")
        return made

    def connector(self, reactor: Any) -> IStreamClientEndpoint:
        """The endpoint to connect through. If this backend is a string, a new one is made. What is
        known of the addresses of a host belongs to it, so keep it.

        A C{tcp} or C{tls} string with a host name connects to all addresses of the host in turn,
        IPv4 and IPv6; the name is resolved again when the addresses are 15 s old, or have all
        failed. See C{NamedEndpoint}. An C{ssl} string leaves its host to the reactor, which
        connects to the first IPv4 address only.

        @raise ValueError: a plugin refuses the arguments of the string.
        @raise TypeError: it makes an endpoint for each connect.
        """
        if isinstance(self.endpoint, str):
            return endpoint_from_string(reactor, self.endpoint)
        if self.makes_endpoints:
            raise TypeError(f"{self} makes an endpoint for each connect")
        return self.endpoint  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Backend):
            return NotImplemented
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.name or _text_of(self.endpoint)

    def __repr__(self) -> str:
        endpoint = self.endpoint
        text = shown(endpoint) if isinstance(endpoint, str) else _text_of(endpoint)
        values = {"name": self.name, "limit": self.limit, "weight": self.weight, "zone": self.zone}
        told = "".join([f", {name}={value!r}" for name, value in values.items()])
        return f"Backend(endpoint={text}{told})"


AnyBackend = Backend | str | tuple[str, int]
"""The forms in which callers may name a backend."""

Backends = Mapping[Hashable, Backend]
"""Backends by their keys."""

MakeEndpoint = Callable[[Any, Backend], IStreamClientEndpoint]
"""Makes the endpoint of a backend for a reactor, in the place of C{Backend.connector}."""


def several(name: str, backends: Any) -> Iterable[AnyBackend]:
    """Check that an argument is a collection of backends.

    @param name: the name of the argument.
    @return: C{backends}.
    @raise TypeError: C{backends} is a single backend, or cannot be iterated over.
    """
    if type(backends) in (list, tuple):
        return backends  # type: ignore[no-any-return]
    if isinstance(backends, str | bytes | Backend) or not isinstance(backends, Iterable):
        raise TypeError(f"{name} must be several backends, not {shown(backends)}")
    return backends


def labelled(backends: Iterable[Backend]) -> Iterator[tuple[Backend, str]]:
    """Each backend with a text that tells it from the others: its name, or its endpoint.

    Where that is not unique, all but the first get a number: C{cache}, C{cache (2)}.
    """
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for backend in backends:
        label = name = str(backend)
        while label in taken:
            numbers[name] = number = numbers.get(name, 1) + 1
            label = f"{name} ({number})"
        taken.add(label)
        yield backend, label


def named(backends: Sequence[Backend]) -> str:
    """The names of backends, ten at most, for a line of the log or an error."""
    names = ", ".join(map(str, backends[:_MOST_NAMED]))
    more = len(backends) - _MOST_NAMED
    return f"{names} and {more} more" if more > 0 else names or "none"


def _may_make_endpoints(endpoint: Any) -> bool:
    return callable(endpoint) and fewest_arguments(endpoint, 0, 1) is not None


def _text_of(endpoint: Any) -> str:
    """An endpoint in a message."""
    if callable(endpoint) and not IStreamClientEndpoint.providedBy(endpoint):
        return f"{name_of(endpoint)}()"
    return hide_secrets(str(endpoint))


def _tcp_string(pair: tuple[Any, ...]) -> str:
    if len(pair) != 2 or not isinstance(pair[0], str) or not pair[0]:
        raise ValueError(f"a backend's pair is (host, port), not {pair!r}")
    host, port = pair
    check_whole("port", port, 1, 65535)
    return f"tcp:{quoteStringArgument(host)}:{port}"
