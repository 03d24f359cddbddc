"""What DNS records say about backends: which they are, and for how long that holds."""

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
"""The resolver's methods that ask for each kind of records."""

_UNWEIGHTED = 0.1
"""The weight of a backend whose SRV record has weight 0. RFC 2782 wants a very small chance for it
where others have a weight, and the same for all where none has; a backend without any would never
be chosen."""

MakeEndpoint = Callable[[str, int], str]
"""Makes a client endpoint string of a host, or an address, and a port."""


def tcp(host: str, port: int) -> str:
    """The endpoint string C{tcp:host:port}; an IPv6 address has its colons quoted."""
    return f"tcp:{quoteStringArgument(host)}:{port}"


def of_answer(answer: Any) -> list[Any]:
    """The records that a resolver has answered.

    @raise TypeError: it is no answer of C{IResolver}.
    """
    try:
        found = list(answer[0])
    except (IndexError, KeyError, TypeError):
        raise TypeError(f"the resolver answered {answer!r}, not lists of records") from None
    for each in found:
        if not isinstance(each, dns.RRHeader):
            raise TypeError(f"the resolver answered {each!r} in the place of a record")
    return found


def hosts(records: Iterable[Any]) -> list[str]:
    """The addresses of A and AAAA records, each once, as they come."""
    found: dict[str, None] = {}
    for each in records:
        if each.type == dns.A:
            found[each.payload.dottedQuad()] = None
        elif each.type == dns.AAAA:
            found[socket.inet_ntop(socket.AF_INET6, each.payload.address)] = None
    return list(found)


def addresses(records: Iterable[Any], port: int, make_endpoint: MakeEndpoint) -> list[Backend]:
    """The backends at the addresses of A and AAAA records, sorted, each once.

    Sorted, since name servers rotate their answers. What C{make_endpoint} raises comes through.

    @raise ValueError: C{make_endpoint} makes no endpoint of one.
    @raise TypeError: it makes no string.
    """
    # Two addresses may be one endpoint to C{make_endpoint}, of a proxy for example.
    return list(
        dict.fromkeys([_backend(make_endpoint, each, port) for each in sorted(hosts(records))])
    )


def services(
    records: Iterable[Any], make_endpoint: MakeEndpoint
) -> tuple[list[Backend], list[str]]:
    """The backends that SRV records name, sorted, each once, and the records that cannot be used,
    each with the reason: C{make_endpoint} makes no endpoint of it, as its port is 0 for example.

    Of those that can be used only the ones of the lowest priority number: the others are for when
    the name server no longer tells these, not for when they are down. A target C{.} says that there
    is no such service (RFC 2782).
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
        except Exception as error:  # of make_endpoint, anything
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
    if not isinstance(endpoint, str):  # an endpoint object would be another backend each time
        raise TypeError(f"make_endpoint must make a string of {host} and {port}, not {endpoint!r}")
    return Backend(endpoint, weight=weight)


def ttl(records: Iterable[Any]) -> float:
    """For how many seconds all of them hold, aliases among them too; 0 if there are none."""
    return float(min([each.ttl for each in records], default=0))


def says_there_is_none(error: BaseException) -> bool:
    """Whether this is an answer, that there are no such records, and no failure to get one."""
    return isinstance(error, DNSNameError | AuthoritativeDomainError) or type(error) is DomainError


def explain(error: BaseException) -> str:
    """An error of a lookup, in a few words; many of them carry a whole message of DNS."""
    if type(error) is LookupError:  # it is of this package, and says all
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
    (DNSNotImplementedError, "the name server does not know such a question"),
)
