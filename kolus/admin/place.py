"""C{place_of}: where the admin server listens, and whether that is safe."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

__all__ = ["Place", "place_of"]

_EXAMPLES = "unix:/run/kolus/admin.sock, or tcp:7481:interface=127.0.0.1"


@dataclass(frozen=True, slots=True)
class Place:
    """
    @ivar text: the endpoint string, for messages.
    @ivar is_private: whether it is a UNIX socket, whose file says who may connect.
    """

    text: str
    endpoint: IStreamServerEndpoint
    is_private: bool


def place_of(reactor: Any, text: str, *, allow_remote: bool) -> Place:
    """
    @param text: a server endpoint string.
    @param allow_remote: whether other machines may connect without TLS.
    @raise ValueError: it is no endpoint string, or other machines could connect.
    """
    kind = text.partition(":")[0].lower()
    is_private = kind == "unix"
    if is_private and ":mode=" not in text:
        text = f"{text}:mode=600"  # Twisted's own default lets everybody connect
    try:
        made: Any = serverFromString(reactor, text)
    except Exception as error:
        raise ValueError(
            f"listen of [admin] is not a server endpoint string: {text!r} ({error}); expected for "
            f"example {_EXAMPLES}"
        ) from error
    if not (is_private or allow_remote or kind in ("ssl", "systemd")) and not _is_loopback(made):
        raise ValueError(
            f"listen of [admin] is {text!r}, which lets other machines connect without TLS; "
            f"expected for example {_EXAMPLES}; or set allow_remote = true"
        )
    return Place(text, made, is_private)


def _is_loopback(endpoint: Any) -> bool:
    interface = getattr(endpoint, "_interface", "")
    if interface == "localhost":
        return True
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return False
