"""C{Networks}: a list of IP networks, and whether an address is in one of them.

It is frozen: nothing changes it once it is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

__all__ = ["UNIX", "Networks", "address_of"]

UNIX = "unix"
"""In a list of networks: the clients of UNIX sockets, which have no address."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_Range = tuple[int, int]


class Networks:
    """IP networks, such as C{10.0.0.0/8}, C{2001:db8::/32}, or one address; C{unix} stands for all
    clients of UNIX sockets.

    An IPv4 address that an IPv6 socket tells as C{::ffff:10.0.0.7} is looked up as C{10.0.0.7}. The
    zone of an address, as in C{fe80::1%eth0}, is ignored.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        """
        @raise ValueError: one of them is not a network. The message says which, and what to write.
        """
        self._has_unix = False
        ranges: dict[int, list[_Range]] = {4: [], 6: []}
        for each in networks:
            if each == UNIX:
                self._has_unix = True
            else:
                network = _parsed(each)
                first, last = network.network_address, network.broadcast_address
                ranges[network.version].append((int(first), int(last)))
        self._ranges = {version: tuple(sorted(found)) for version, found in ranges.items()}

    def __contains__(self, host: object) -> bool:
        """Whether an address is in one of the networks.

        @param host: the text of an address; C{None} or anything else that is none: a UNIX socket.
        """
        address = address_of(host)
        if address is None:
            return self._has_unix
        number = int(address)
        return any(first <= number <= last for first, last in self._ranges[address.version])

    def __bool__(self) -> bool:
        return self._has_unix or any(self._ranges.values())


def address_of(host: object) -> IPv4Address | IPv6Address | None:
    """The address that a text stands for; C{None} if it is no address."""
    if not isinstance(host, str):
        return None
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _parsed(text: object) -> IPv4Network | IPv6Network:
    expected = "expected for example '10.0.0.0/8', '2001:db8::/32', '10.0.0.7' or 'unix'"
    if not isinstance(text, str):
        raise ValueError(f"not a network: {text!r}; {expected}")
    try:
        network = ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            whole = ip_network(text, strict=False)
            raise ValueError(
                f"not a network: {text!r} has bits beyond its mask; did you mean {str(whole)!r}?"
            ) from None
        raise ValueError(f"not a network: {text!r}; {expected}") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        bits = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((bits, network.prefixlen - 96))
    return network
