"""Reads DNS records: the backends that they name, and their time to live."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import TimeoutError
from twisted.internet.endpoints import quoteStringArgument
from twisted.names import dns
from twisted.names.error import (
    AuthoritativeDomainError,
    DNSNameError,
    DNSNotImplementedError,
    DNSQueryRefusedError,
    DNSServerError,
    DomainError,
)

from kolus.backend import Backend
from kolus.errors import describe

__all__ = [
    "LOOKUPS",
    "MakeEndpoint",
    "addresses",
    "explain",
    "hosts",
    "of_answer",
    "says_there_is_none",
    "services",
    "tcp",
    "ttl",
]

LOOKUPS = {
    "addresses": ("lookupAddress", "lookupIPV6Address"),
    "ipv4": ("lookupAddress",),
    "ipv6": ("lookupIPV6Address",),
    "srv": ("lookupService",),
}
"""The methods of C{IResolver} that look up each kind of records."""

_UNWEIGHTED = 0.1
"""The weight of a backend whose SRV record has weight 0. RFC 2782 wants a very small chance for it
beside records with a weight, and equal chances if all weights are 0. A backend of weight 0 would
never be chosen."""

MakeEndpoint = Callable[[str, int], str]
"""Makes a client endpoint string from a host or an address, and a port."""


def tcp(host: str, port: int) -> str:
    """The endpoint string C{tcp:host:port}; an IPv6 address has its colons quoted."""
    return f"tcp:{quoteStringArgument(host)}:{port}"


def of_answer(answer: Any) -> list[Any]:
    """The records in the answer of a resolver.

    @raise TypeError: the answer has not the form that C{IResolver} says.
    """
    try:
        found = list(answer[0])
    except (IndexError, KeyError, TypeError):
        raise TypeError(f"the resolver returned {answer!r}, not lists of records") from None
    for each in found:
        if not isinstance(each, dns.RRHeader):
            raise TypeError(f"the resolver returned {each!r} instead of a record")
    return found


def hosts(records: Iterable[Any]) -> list[str]:
    """The addresses in A and AAAA records, in their order, without duplicates."""
    found: dict[str, None] = {}
    for each in records:
        if each.type == dns.A:
            found[each.payload.dottedQuad()] = None
        elif each.type == dns.AAAA:
            found[socket.inet_ntop(socket.AF_INET6, each.payload.address)] = None
    return list(found)


def addresses(records: Iterable[Any], port: int, make_endpoint: MakeEndpoint) -> list[Backend]:
    """The backends at the addresses in A and AAAA records, without duplicates.

    They are sorted, because name servers rotate their answers. An exception of C{make_endpoint} is
    passed on.

    @raise ValueError: C{make_endpoint} returned a string that is no endpoint.
    @raise TypeError: it returned no string.
    """
    # C{make_endpoint} may return one endpoint for two addresses: that of a proxy, for example.
    return list(
        dict.fromkeys([_backend(make_endpoint, each, port) for each in sorted(hosts(records))])
    )


def services(
    records: Iterable[Any], make_endpoint: MakeEndpoint
) -> tuple[list[Backend], list[str]]:
    """The backends in SRV records, sorted and without duplicates, and the unusable records, each
    with the reason: C{make_endpoint} makes no endpoint of it, because its port is 0, for example.

    Only the usable records with the lowest priority number count. The others count when the name
    server removes these, not when these are down. The target C{.} means that there is no such
    service (RFC 2782).
    """
    usable: list[tuple[int, Backend]] = []
    unusable: list[str] = []
    for each in [each.payload for each in records if each.type == dns.SRV]:
        target = each.target.name
        if target in (b"", b"."):
            continue
        try:
            host, weight = target.decode("ascii").lower(), each.weight or _UNWEIGHTED
            backend = _backend(make_endpoint, host, each.port, weight)
        except Exception as error:  # make_endpoint may raise anything
            shown = target.decode("ascii", "backslashreplace")
            why = str(error) if isinstance(error, ValueError) else describe(error)
            unusable.append(f"{each.priority} {each.weight} {each.port} {shown}: {why}")
        else:
            usable.append((each.priority, backend))
    lowest = min([priority for priority, _ in usable], default=0)
    found = [backend for priority, backend in usable if priority == lowest]
    found.sort(key=lambda each: (str(each.endpoint), each.weight))
    return list({each.key: each for each in found}.values()), unusable


def _backend(make_endpoint: MakeEndpoint, host: str, port: int, weight: float = 1.0) -> Backend:
    endpoint = make_endpoint(host, port)
    if not isinstance(endpoint, str):  # endpoint objects are never equal: each is a new backend
        raise TypeError(
            f"make_endpoint must return a string for {host} and {port}, not {endpoint!r}"
        )
    return Backend(endpoint, weight=weight)


def ttl(records: Iterable[Any]) -> float:
    """The shortest time to live in seconds, aliases included; 0 if there are no records."""
    return float(min([each.ttl for each in records], default=0))


def says_there_is_none(error: BaseException) -> bool:
    """Whether the error is a real answer ("no such name or record"), not a failed lookup."""
    return isinstance(error, DNSNameError | AuthoritativeDomainError) or type(error) is DomainError


def explain(error: BaseException) -> str:
    """A lookup's error in a few words: many errors contain a whole DNS message."""
    if type(error) is LookupError:  # raised by this package: its text says everything
        return str(error)
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if error.args and isinstance(error.args[0], dns.Message):
        return type(error).__name__
    return describe(error)


_WORDS = (
    (TimeoutError, "no answer in time"),
    (DNSServerError, "the name server failed"),
    (DNSQueryRefusedError, "the name server refused"),
    (DNSNotImplementedError, "the name server does not support the query"),
)
