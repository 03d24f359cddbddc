"""C{Guard}: who may read and who may change something; one for each place of listening."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from kolus.admin.problem import Problem

__all__ = ["Guard", "is_for_all", "read_token"]

_SAME_SITE = ("same-origin", "none")
_MOST_TOKEN = 4096


class Guard:
    """Refuses what a foreign web page could have sent, and changes without a token.

    A page of another site can make a browser send requests to a loopback address. By a name that it
    has the browser resolve to that address (DNS rebinding) it can even read the answers. So the
    C{Host} header must be an address, C{localhost} or a configured name.
    """

    def __init__(self, *, is_private: bool, hosts: Sequence[str], token_file: str | None) -> None:
        """
        @param is_private: whether the place is a UNIX socket, whose file says who may connect.
        @param hosts: names by which the server is called.
        """
        self._is_private = is_private
        self._hosts = {"localhost", *(each.lower() for each in hosts)}
        self._token_file = token_file

    def check_read(self, host: str | None, site: str | None) -> None:
        """
        @param host: the header C{Host}.
        @param site: the header C{Sec-Fetch-Site}, which browsers send.
        @raise Problem: it is not allowed.
        """
        if not self._is_private and not self._is_ours(host):
            raise Problem(
                421,
                f"the Host header says {(host or '')[:100]!r}, which is no name of this server; "
                "call it by its address, or add the name to hosts in [admin]",
            )
        if site is not None and site.lower() not in _SAME_SITE:
            raise Problem(403, "a page of another site must not use this server")

    def check_change(
        self,
        host: str | None,
        origin: str | None,
        content_type: str | None,
        authorization: str | None,
    ) -> None:
        """Check what C{check_read} has passed.

        @raise Problem: it is not allowed.
        """
        if origin is not None and (_place_of(origin) != (host or "").lower()):
            raise Problem(403, f"a page of {origin[:100]!r} must not change anything here")
        kind = (content_type or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(415, "send the header Content-Type: application/json")
        if not self._is_private:
            self._check_token(authorization)

    def _is_ours(self, host: str | None) -> bool:
        try:
            name = urlsplit(f"//{host or ''}").hostname or ""
        except ValueError:
            return False
        try:
            ip_address(name)
        except ValueError:
            return name.lower() in self._hosts
        return True

    def _check_token(self, authorization: str | None) -> None:
        if self._token_file is None:
            raise Problem(
                403,
                "this address is read-only: no token_file is set in [admin]; use the UNIX socket, "
                "or set one",
            )
        wanted = _token_in(self._token_file)
        kind, _, given = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not given:
            raise Problem(
                401,
                "a token is needed: send the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": 'Bearer realm="kolus"'},
            )
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), wanted):
            raise Problem(
                401,
                "this is not the token of token_file",
                {"WWW-Authenticate": 'Bearer realm="kolus", error="invalid_token"'},
            )


def _token_in(path: str) -> bytes:
    """
    @raise Problem: there is none.
    """
    try:
        return read_token(path)
    except ValueError as error:
        raise Problem(503, f"token_file {error}") from None


def is_for_all(path: str) -> bool:
    """Whether every user of this machine can read a file."""
    with suppress(OSError):
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    return False


def read_token(path: str) -> bytes:
    """The token in a file: its first line.

    @raise ValueError: it says why there is none.
    """
    try:
        with Path(path).open("rb") as file:
            token = file.readline(_MOST_TOKEN).strip()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not token:
        raise ValueError(
            "is empty: write a token in its first line, such as that of openssl rand -hex 32"
        )
    return token


def _place_of(origin: str) -> str:
    """The host and port of an origin; C{null}, of a page without an origin, gives an empty one."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
