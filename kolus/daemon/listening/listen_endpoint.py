"""C{listen_endpoint}: the endpoint of an address to listen on."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Any

from twisted.internet.abstract import isIPAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from kolus.daemon.listening.adopted import BACKLOG, LentEndpoint
from kolus.daemon.listening.endpoint_string import BEHIND_BALANCERS
from kolus.daemon.listening.unix_listening import UNIXListeningEndpoint, check_socket_path
from kolus.errors import describe, hide_secrets
from kolus.support import nearest

__all__ = ["listen_endpoint", "promised_endpoint"]

_IPV6 = re.compile(
    r"\[[0-9A-Fa-f:.]+\]|(?<=interface=)[0-9A-Fa-f]*(?<!\\):(?!interface)[0-9A-Fa-f:.]+"
)
"""An IPv6 address whose colons are not escaped."""
_EXAMPLE = "tcp:6380:interface=127.0.0.1"
_EXAMPLES = {"systemd": "systemd:domain=INET:name=carts", "unix": "unix:/run/kolus/carts"}
"""Of kinds that have no port."""

_DOMAINS = ("INET", "INET6", "UNIX")
_WITH_BACKLOG = ("ssl", "tcp", "tcp6", "unix")
_KINDS = (*_WITH_BACKLOG, "systemd", "haproxy")
_ARGUMENTS = (
    *("backlog", "certKey", "dhParameters", "domain", "extraCertChain", "index", "interface"),
    *("lockfile", "mode", "name", "privateKey", "sslmethod"),
)
"""What messages may mean. Twisted checks strings."""


def listen_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Make the endpoint that a server endpoint string stands for. Nothing is listened on.

    Its backlog is 1024, unless the string says otherwise. TLS clients that offer protocols (ALPN)
    are served.

    @raise ValueError: the string cannot be used. The message says why, and what to write.
    """
    its = description.removeprefix(BEHIND_BALANCERS)  # the front reads the headers itself
    try:
        return _checked(_made(reactor, its), its)
    except Exception as error:
        why = f"not a server endpoint string: {description!r} ({_why(its, error)})"
        raise ValueError(hide_secrets(why)) from error


def promised_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint | None:
    """As C{listen_endpoint}, in a process that will not listen: systemd gives its sockets to the
    daemon alone, not to C{ExecStartPre=} nor to a shell.

    @return: C{None} if the string stands for a socket that systemd did not give.
    """
    try:
        return listen_endpoint(reactor, description)
    except ValueError as error:
        if isinstance(error.__cause__, LookupError):  # among the sockets that were given
            return None
        raise


def _made(reactor: Any, description: str) -> Any:
    is_path = _kind_of(description).strip() == "unix"  # a path may have spaces within
    if description != description.strip() or not (is_path or len(description.split()) <= 1):
        raise _Unusable("there is a space in it: leave it out")
    if _kind_of(description) == "tls":
        # Twisted reads tls:7480 as a folder 7480 of certificates, and listens on port 443.
        raise _Unusable(
            "a TLS listener needs certificates: give tcp:PORT, and tls.certificates in a file or "
            "--tls-certificates"
        )
    domain = re.search(r":(?:domain=)?(\w+)(?=:|$)", description)
    if _kind_of(description) == "systemd" and domain is not None and domain[1] not in _DOMAINS:
        raise _Unusable(
            f"domain is {_DOMAINS[0]}, {_DOMAINS[1]} or {_DOMAINS[2]}, not {domain[1]!r}"
        )
    if _kind_of(description) == "unix" and ":lockfile=" not in description:
        description += ":lockfile=0"
    if _kind_of(description) in _WITH_BACKLOG and ":backlog=" not in description:
        with suppress(Exception):  # parsing it without the backlog gives a better error
            return serverFromString(reactor, f"{description}:backlog={BACKLOG}")
    return serverFromString(reactor, description)


def _checked(made: Any, description: str) -> IStreamServerEndpoint:
    kind = _kind_of(description)
    if not 0 <= getattr(made, "_port", 0) < 65536:
        raise _Unusable("its port is not from 0 to 65535")
    if kind == "unix":
        try:
            check_socket_path(os.fspath(made._address))
        except ValueError as error:
            raise _Unusable(str(error)) from None
        if not made._wantPID:
            made = UNIXListeningEndpoint(made, made._address)
    if kind == "systemd":
        lent = LentEndpoint(made.reactor, made.fileno)
        try:
            lent.check(made.addressFamily)
        except ValueError as error:
            raise _Unusable(str(error)) from None
        made = lent
    if kind == "ssl":
        _tolerate_alpn(made._sslContextFactory.getContext())
    listening: IStreamServerEndpoint = made
    return listening


class _Unusable(Exception):
    """Why a string cannot be used, in words for its author."""


def _why(description: str, error: Exception) -> str:
    kind, _, rest = description.partition(":")
    example = _EXAMPLES.get(kind, _EXAMPLE)
    if isinstance(error, _Unusable):
        return str(error)
    if address := _IPV6.search(description):
        port = re.search(r"(?<=\]:)\d+$|(?<=[p6]:)\d+(?=:)", description)
        its = address[0].strip("[]").replace(":", r"\:")
        return (
            r"the colons of an IPv6 address are written as \:, for example "
            f"tcp6:{port[0] if port else 6380}:interface={its}"
        )
    if kind == "unix" and ":mode=" in description:
        return "mode is in octal, for example mode=660"
    if kind.lower() == "ssl" and isinstance(error, OSError):
        if "privateKey=" not in description:
            return (
                "a TLS listener needs certificates; expected "
                f"{description}:privateKey=key.pem:certKey=certificate.pem"
            )
        return f"cannot read {error.filename}: {error.strerror}"
    if kind.lower() == "ssl" and type(error).__module__.startswith("OpenSSL"):
        return "privateKey= and certKey= must name PEM files of a key and its certificate"
    if isinstance(error, NameError | ImportError):  # what Twisted could not import of pyOpenSSL
        return "TLS needs pip install 'kolus[tls]'"
    if missing := re.search(r"missing \d+ required .*'(\w+)'$", str(error)):
        return f"the {missing[1]} is missing; expected for example {example}"
    if unknown := re.search(r"unexpected keyword arg.*'(\w+)'", str(error)):
        near = nearest(unknown[1], _ARGUMENTS)
        hint = f"expected for example {example}" if near is None else f"did you mean {near!r}?"
        return f"unknown argument {unknown[1]!r}; {hint}"
    if number := re.search(r"invalid literal for int\(\) .*: b?('.*')$", str(error)):
        meant = (
            _meant(*_address_and_port(rest)) if kind == "tcp" else f"expected for example {example}"
        )
        return f"{number[1]} is not a number; {meant}"
    if kind == "systemd" and isinstance(error, KeyError):
        return f"systemd gave this process no socket of the name {error}"
    if kind == "systemd" and isinstance(error, IndexError):
        return "systemd gave this process no socket of this index"
    if not description.strip():
        return f"it is empty; expected for example {_EXAMPLE}"
    if "Unknown endpoint type" in str(error):
        return f"unknown kind {kind!r}; {_meant(kind, rest)}"
    return f"{describe(error)}; expected for example {_EXAMPLE}"


def _meant(kind: str, rest: str) -> str:
    """What somebody meant who left out the kind: a port, an address and a port, or a path."""
    if (kind or rest).isdecimal() and not (kind and rest):
        return f"did you mean tcp:{kind or rest}?"
    if rest.isdecimal() and kind == "*":
        return f"did you mean tcp:{rest}?"
    if rest.isdecimal() and isIPAddress(kind):
        return f"did you mean tcp:{rest}:interface={kind}?"
    if "/" in kind:
        return f"did you mean unix:{kind}?"
    near = nearest(kind, _KINDS)
    return f"expected for example {_EXAMPLE}" if near is None else f"did you mean {near}:{rest}?"


def _address_and_port(text: str) -> tuple[str, str]:
    """The parts of an address as other programs have it: C{10.0.0.7:6380}, or that of a URL."""
    host, _, port = text.removeprefix("//").rstrip("/").partition(":")
    return host, port


def _tolerate_alpn(context: Any) -> None:
    """Accept clients that offer protocols by ALPN, and choose none.

    Twisted would end the handshake if no offered protocol matches.
    """
    from OpenSSL import SSL

    context.set_alpn_select_callback(lambda connection, offered: SSL.NO_OVERLAPPING_PROTOCOLS)


def _kind_of(description: str) -> str:
    return description.partition(":")[0].lower()
