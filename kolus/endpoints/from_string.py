"""Client endpoint strings: what is wrong with one, and the endpoint that one stands for."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, clientFromString
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.plugin import getPlugins
from twisted.python.filepath import UnlistableError

from kolus.endpoints.hosts import Hosts
from kolus.endpoints.machine import machine_fault
from kolus.endpoints.named import NamedEndpoint
from kolus.errors import describe, hide_secrets
from kolus.support import nearest

__all__ = ["check_endpoint_string", "endpoint_from_string", "is_of_plugin", "what_is_unverified"]

_OWN_KINDS = frozenset({"ssl", "tcp", "unix"})
"""The kinds that Twisted parses itself, which needs no reactor."""

_LASTING_KINDS = frozenset({"tcp", "unix"})
"""The kinds of which the text says all: no file is read, and no plugin is asked."""

_ARGUMENTS = (
    *("bindAddress", "caCertsDir", "certKey", "certificate", "lockfile", "privateKey", "timeout"),
    "trustRoots",
)
"""What messages may mean. Twisted checks strings."""

_REMEMBERED = 10_000
"""How many strings are parsed once only. A daemon with thousands of backends reads all of them
again when one changes, and Twisted takes most of a tenth of a millisecond for each."""

_LONGEST_PATH = 107  # as Linux has it
_IPV6 = re.compile(r"(\w+):\[?([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*)\]?:(\d+(?::.*)?)")
"""A string with an IPv6 address whose colons are not escaped."""

_PLACE = re.compile(
    r"(?:[A-Za-z][\w+.-]*:)?(?://)?(?:[^@/]*@)?(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+)):(\d+)(?:/.*)?"
)
"""What has a host and a port, as the URL of a server."""

_plugin_kinds: set[str] = set()
"""The kinds that plugins are known to parse. Looking for plugins takes most of a millisecond."""


def check_endpoint_string(description: str) -> None:
    """Refuse a string that no reactor could connect with.

    A plugin may need a reactor to parse its arguments. So of its strings only the kind is checked
    here, and C{endpoint_from_string} checks the rest.

    @raise ValueError: it says what is wrong.
    """
    if ":" not in description:
        raise _unusable(description, "expected KIND:ARGUMENTS, such as tcp:127.0.0.1:6379")
    kind = _kind_of(description)
    is_path = kind.strip() == "unix"  # a path may have spaces within
    if description != description.strip() or not (is_path or len(description.split()) == 1):
        raise _unusable(description, "there is a space in it: leave it out")
    if kind in _OWN_KINDS:
        made = _parse(None, description)
        if not (getattr(made, "_path", None) or getattr(made, "_host", None)):
            raise _unusable(description, "it has no host, or no path")
        if len(os.fsencode(getattr(made, "_path", ""))) > _LONGEST_PATH:
            raise _unusable(description, f"a path of a socket has at most {_LONGEST_PATH} bytes")
        _check_port(description, made)
    elif kind not in _plugin_kinds:
        plugins = getPlugins(IStreamClientEndpointStringParserWithReactor)
        _plugin_kinds.update([plugin.prefix.lower() for plugin in plugins])
        if kind not in _plugin_kinds:
            known = ", ".join(sorted(_plugin_kinds | _OWN_KINDS))
            why = f"unknown kind {kind!r}, known kinds: {known}{_hint(kind, description)}"
            raise _unusable(description, why)


def _check_port(description: str, made: Any) -> None:
    if not 0 < getattr(made, "_port", 1) < 65536:
        raise _unusable(description, "its port is not from 1 to 65535")


def what_is_unverified(description: str) -> str:
    """What a string does not verify, and what to write: a warning for an operator. Empty: all is
    verified, or there is no TLS."""
    if _kind_of(description) != "ssl":
        return ""
    secure = hide_secrets("tls:" + ":".join(description.split(":")[1:3]))
    return f"its certificate is not verified, and it is told no server name; {secure} does both"


def is_of_plugin(description: str) -> bool:
    """Whether a plugin parses this string, such as one of the kind C{tls}."""
    return _kind_of(description) not in _OWN_KINDS


def endpoint_from_string(
    reactor: Any, description: str, hosts: Hosts | None = None
) -> IStreamClientEndpoint:
    """Make the endpoint that a string stands for.

    A host name in a C{tcp} or C{tls} string is connected to by a C{NamedEndpoint}, if the reactor
    provides C{IReactorPluggableNameResolver}.

    @param hosts: what is known of the hosts; C{None}: nothing yet.
    @raise ValueError: the string cannot be parsed.
    """
    made = _parse(reactor, description)
    if IReactorPluggableNameResolver.providedBy(reactor):
        if _kind_of(description) == "tcp":
            return _in_place_of(reactor, made, hosts)
        if _kind_of(description) == "tls":
            its: Any = made  # TLS around an endpoint that connects
            _check_port(description, its._wrappedEndpoint)
            its._wrappedEndpoint = _in_place_of(reactor, its._wrappedEndpoint, hosts)
    return made


def _in_place_of(reactor: Any, made: Any, hosts: Hosts | None) -> IStreamClientEndpoint:
    """What connects in place of an endpoint that Twisted has made for a host and a port."""
    if type(made) is HostnameEndpoint:
        host = made._hostText
    elif type(made) is TCP4ClientEndpoint:
        host = made._host
    else:
        return made  # type: ignore[no-any-return]
    # C{HostnameEndpoint} would resolve an address, too, in a thread.
    how = (reactor, host, made._port, made._timeout, made._bindAddress)
    if isIPAddress(host) or isIPv6Address(host):
        return TCP4ClientEndpoint(*how)
    known = None if hosts is None else hosts.addresses(reactor, host, made._port)
    return NamedEndpoint(*how, known)


def _parse(reactor: Any, description: str) -> IStreamClientEndpoint:
    if _kind_of(description) not in _LASTING_KINDS:
        return _parse_now(reactor, description)
    kept: Any = _lasting(description)
    made: Any = object.__new__(type(kept))
    made.__dict__ = {**kept.__dict__, "_reactor": reactor}  # copy.copy takes ten times as long
    return made  # type: ignore[no-any-return]


@lru_cache(_REMEMBERED)
def _lasting(description: str) -> IStreamClientEndpoint:
    """The endpoint of a lasting kind, without a reactor, to be copied."""
    return _parse_now(None, description)


def _parse_now(reactor: Any, description: str) -> IStreamClientEndpoint:
    try:
        return clientFromString(reactor, description)  # type: ignore[no-any-return]
    except Exception as error:
        fault = machine_fault(error)  # Twisted looks for plugins and certificates in files
        raise fault or _unusable(description, _why(description, error)) from error


def _why(description: str, error: Exception) -> str:
    """What is wrong. Where Twisted's message is about its own functions, this one is about the
    string."""
    if address := _IPV6.fullmatch(description):
        escaped = f"{address[1]}:{_escaped(address[2])}:{address[3]}"
        return rf"the colons of an IPv6 address are written as \:, here {escaped}"
    if isinstance(error, NameError):  # what Twisted could not import of pyOpenSSL
        return "TLS needs pip install 'kolus[tls]'"
    if isinstance(error, UnlistableError):
        why = error.originalException
        return f"trustRoots must be a folder of *.pem files; {why.filename}: {why.strerror}"
    form = f"; expected {_kind_of(description)}:HOST:PORT"
    if missing := re.search(r"missing \d+ required .*'(\w+)'$", str(error)):
        return f"the {missing[1]} is missing{form if missing[1] == 'port' else ''}"
    if unknown := re.search(r"(?:unexpected|unrecognized) keyword arg.*'(\w+)'", str(error)):
        near = nearest(unknown[1], _ARGUMENTS)
        hint = form if near is None else f"; did you mean {near!r}?"
        return f"unknown argument {unknown[1]!r}{hint}"
    if number := re.search(r"invalid literal for int\(\) .*: b?('.*')$", str(error)):
        is_port = number[1] in map(repr, description.split(":")[2:3])
        return f"{number[1]} is not a number{form if is_port else ''}"
    return describe(error)


def _escaped(host: str) -> str:
    return host.replace(":", r"\:")


def _hint(kind: str, description: str) -> str:
    """What may have been meant by a string of an unknown kind, to be added to a message."""
    if kind == "tcp6":
        return "; did you mean tcp, which connects to IPv6 addresses, too?"
    place = _PLACE.fullmatch(description)
    if place is None:
        return ""
    similar = nearest(kind, _plugin_kinds | _OWN_KINDS) or "tcp"
    return f"; did you mean {similar}:{_escaped(place[1] or place[2])}:{place[3]}?"


def _kind_of(description: str) -> str:
    return description.partition(":")[0].lower()


def _unusable(description: str, why: str) -> ValueError:
    return ValueError(hide_secrets(f"not a client endpoint string: {description!r} ({why})"))
