"""C{Backend}: a place to connect to, a frozen value."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import clientFromString, quoteStringArgument
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.plugin import getPlugins

from kolus.endpoints import NamedEndpoint
from kolus.errors import describe

__all__ = ["AnyBackend", "Backend", "Backends", "named", "several"]


_LEAST_WEIGHT, _MOST_WEIGHT = 1e-6, 1e6
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Backend:
    """A place to connect to.

    Two backends with the same endpoint string are equal, whatever their name or weight, and share
    one manager; one made from an endpoint object equals only itself.

    @raise ValueError: the endpoint string cannot be parsed, or a number is out of its range.
    @raise TypeError: C{endpoint} is none of the three forms.
    """

    endpoint: str | IStreamClientEndpoint
    """A client endpoint string, an C{IStreamClientEndpoint}, or a pair C{(host, port)}, which is
    turned into the string C{tcp:host:port}."""
    _: KW_ONLY
    name: str | None = None
    """What messages call it; the endpoint if C{None}."""
    limit: int | None = None
    """Most connections; the policy's C{limit} if C{None}."""
    weight: float = 1.0
    """Its share of the load, relative to the others'; from 0.000001 to 1000000. Thousands of such
    are added, compared and divided by one another without the least being lost in rounding."""
    zone: str = ""
    """Where it stands, for balancers that prefer near ones."""
    key: Hashable = field(init=False, repr=False)
    """What its manager is found by."""

    def __post_init__(self) -> None:
        endpoint: Any = self.endpoint
        if isinstance(endpoint, tuple):
            endpoint = _tcp_string(endpoint)
            object.__setattr__(self, "endpoint", endpoint)
        if isinstance(endpoint, str):
            _check_endpoint_string(endpoint)
            object.__setattr__(self, "key", endpoint)
        elif IStreamClientEndpoint.providedBy(endpoint):
            object.__setattr__(self, "key", object())
        else:
            raise TypeError(
                "not a backend: expected a client endpoint string, a (host, port) pair or an "
                f"IStreamClientEndpoint, got {endpoint!r}"
            )
        if not (self.name is None or isinstance(self.name, str)):
            raise ValueError(f"name must be a string, not {self.name!r}")
        if not isinstance(self.zone, str):
            raise ValueError(f"zone must be a string, not {self.zone!r}")
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise ValueError(f"limit must be a whole number of at least 1, not {self.limit!r}")
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

    @classmethod
    def of(cls, backend: AnyBackend) -> Backend:
        """The backend that an endpoint string or a pair stands for; a Backend is itself."""
        if isinstance(backend, cls):
            return backend
        if IStreamClientEndpoint.providedBy(backend):
            raise TypeError(
                f"make one Backend of the endpoint {backend!r} and use that each time: two made "
                "from one endpoint are two backends"
            )
        return cls(backend)  # type: ignore[arg-type]

    @classmethod
    def key_of(cls, backend: AnyBackend) -> Hashable:
        """The key of what C{of} would make of it, without parsing a string.

        @raise ValueError: it is a pair of another form.
        @raise TypeError: it is none of the forms.
        """
        if isinstance(backend, str):
            return backend
        return _tcp_string(backend) if isinstance(backend, tuple) else cls.of(backend).key

    def check(self, reactor: Any) -> None:
        """Refuse what making this could not, for want of a reactor: the arguments of a kind of
        endpoint that a plugin brings, such as C{tls}. Nothing is connected.

        @param reactor: one that resolves names; with another nothing is checked.
        @raise ValueError: as C{connector}.
        """
        if (
            isinstance(self.endpoint, str)
            and _kind_of(self.endpoint) not in _OWN_KINDS
            and IReactorPluggableNameResolver.providedBy(reactor)
        ):
            self.connector(reactor)

    def connector(self, reactor: Any) -> IStreamClientEndpoint:
        """The endpoint to connect through, made for C{reactor} if this backend is a string.

        A name in a C{tcp} string is resolved anew once its addresses are 15 s old, and connections
        go to all of them in turn, IPv4 and IPv6: see C{NamedEndpoint}. In a C{tls} string it is
        left to Twisted's C{HostnameEndpoint}, which resolves it at every connect, tries IPv4 and
        IPv6 too, and always in the order of the answer, so one address may get all; in an C{ssl}
        string to the reactor, which takes the first IPv4 address alone.

        @raise ValueError: the string names a kind of endpoint that refuses its arguments.
        """
        if not isinstance(self.endpoint, str):
            return self.endpoint
        try:
            made: IStreamClientEndpoint = clientFromString(reactor, self.endpoint)
        except Exception as error:
            raise _unusable(self.endpoint, error) from error
        return _by_name(reactor, made) if _kind_of(self.endpoint) == "tcp" else made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Backend):
            return NotImplemented
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.name or str(self.endpoint)


AnyBackend = Backend | str | tuple[str, int]
"""Every form in which a backend may be named."""

Backends = Mapping[Hashable, Backend]
"""Backends by their keys."""


def several(name: str, backends: Any) -> Iterable[AnyBackend]:
    """Refuse what is not several backends.

    @raise TypeError: C{backends} is a single one, or nothing that can be gone through.
    """
    if type(backends) in (list, tuple):
        return backends  # type: ignore[no-any-return]
    if isinstance(backends, str | bytes | Backend) or not isinstance(backends, Iterable):
        raise TypeError(f"{name} must be several backends, not {backends!r}")
    return backends


def named(backends: Sequence[Backend]) -> str:
    """Some backends, in a line of the log or of an error."""
    names = ", ".join(map(str, backends[:_MOST_NAMED]))
    more = len(backends) - _MOST_NAMED
    return f"{names} and {more} more" if more > 0 else names or "none"


def _tcp_string(pair: tuple[Any, ...]) -> str:
    if len(pair) != 2 or not isinstance(pair[0], str) or not pair[0]:
        raise ValueError(f"a backend's pair is (host, port), not {pair!r}")
    host, port = pair
    if type(port) is not int or not 0 < port < 65536:
        raise ValueError(f"port must be a whole number from 1 to 65535, not {port!r}")
    return f"tcp:{quoteStringArgument(host)}:{port}"


def _by_name(reactor: Any, made: IStreamClientEndpoint) -> IStreamClientEndpoint:
    """What connects in place of Twisted's endpoint if that has a name and the reactor resolves."""
    its: Any = made
    literal = isIPAddress(its._host) or isIPv6Address(its._host)
    if literal or not IReactorPluggableNameResolver.providedBy(reactor):
        return made
    return NamedEndpoint(reactor, its._host, its._port, its._timeout, its._bindAddress)


_OWN_KINDS = frozenset({"ssl", "tcp", "unix"})
"""The kinds that Twisted brings, which can be parsed without a reactor."""

_plugin_kinds: set[str] = set()
"""The kinds that plugins are known to bring; to look for plugins takes most of a millisecond."""


def _kind_of(description: str) -> str:
    return description.partition(":")[0].lower()


def _check_endpoint_string(description: str) -> None:
    """Refuse what no reactor could connect to.

    Of the kinds that plugins bring only the name is checked here, as they may need a reactor; their
    arguments are in C{Backend.check}, or when a pool first connects.
    """
    if ":" not in description:
        raise ValueError(
            f"not a client endpoint string: {description!r} (expected KIND:ARGUMENTS, such as "
            "tcp:127.0.0.1:6379)"
        )
    kind = _kind_of(description)
    if kind in _OWN_KINDS:
        try:
            made = clientFromString(None, description)
        except Exception as error:
            raise _unusable(description, error) from error
        if not (getattr(made, "_path", None) or getattr(made, "_host", None)):
            raise _unusable(description, ValueError("it says no host, or no path"))
        if not 0 < getattr(made, "_port", 1) < 65536:
            raise _unusable(description, ValueError("its port is not from 1 to 65535"))
    elif kind not in _plugin_kinds:
        plugins = getPlugins(IStreamClientEndpointStringParserWithReactor)
        _plugin_kinds.update([plugin.prefix.lower() for plugin in plugins])
        if kind not in _plugin_kinds:
            raise ValueError(
                f"not a client endpoint string: {description!r} (no kind {kind!r}; there are "
                f"{', '.join(sorted(_plugin_kinds | _OWN_KINDS))})"
            )


def _unusable(description: str, error: Exception) -> ValueError:
    # Without pyOpenSSL, names that Twisted would have imported from it are missing.
    why = "TLS needs pip install 'kolus[tls]'" if isinstance(error, NameError) else describe(error)
    return ValueError(f"not a client endpoint string: {description!r} ({why})")
