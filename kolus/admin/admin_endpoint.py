"""C{AdminEndpoint}: an address that the admin server listens on, which must be a safe one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

__all__ = ["AdminEndpoint", "MakeEndpoint", "admin_endpoint"]

MakeEndpoint = Callable[[str], IStreamServerEndpoint]

_EXAMPLES = "unix:/run/kolus/admin.sock, or tcp:7481:interface=127.0.0.1"


@dataclass(frozen=True, slots=True)
class AdminEndpoint:
    """An address of the admin server.

    @ivar text: the endpoint string, for messages.
    @ivar is_private: whether it is a UNIX socket, whose file says who may connect.
    """

    text: str
    endpoint: IStreamServerEndpoint
    is_private: bool


def admin_endpoint(make: MakeEndpoint, text: str, allow_remote: bool) -> AdminEndpoint:
    """Make the endpoint of an address, if it is a safe one.

    @param make: makes the endpoint of a server endpoint string.
    @param text: a server endpoint string.
    @param allow_remote: whether other machines may connect without TLS.
    @raise ValueError: it is no endpoint string, or other machines could connect.
    """
    kind = text.partition(":")[0].lower()
    if kind == "haproxy":
        raise ValueError(f"{text!r}: the admin server reads no PROXY headers; expected {_EXAMPLES}")
    is_private = kind == "unix"
    if is_private and ":mode=" not in text:
        text = f"{text}:mode=600"  # Twisted's own default lets everybody connect
    made: Any = make(text)
    if not (is_private or allow_remote or kind in ("ssl", "systemd")) and not _is_loopback(made):
        raise ValueError(
            f"{text!r} lets other machines connect without TLS; expected for example {_EXAMPLES}; "
            "or set allow_remote (--admin-allow-remote yes)"
        )
    return AdminEndpoint(text, made, is_private)


def _is_loopback(endpoint: Any) -> bool:
    interface = getattr(endpoint, "_interface", "")
    if interface == "localhost":
        return True
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return False
