"""C{AdminClient}: asks the admin server of a daemon."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import quote, urlsplit

__all__ = ["AdminClient", "Failed", "Misused", "Unreachable", "path_of"]

_TIMEOUT = 10.0


class Failed(Exception):
    """A command has failed; the text says why, and what to do.

    @cvar status: the exit status of the command.
    """

    status = 1


class Misused(Failed):
    """The arguments are wrong."""

    status = 2


class Unreachable(Failed):
    """No daemon answers."""

    status = 3


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class AdminClient:
    """Makes one connection for each question, and blocks until it is answered.

    @ivar url: where the server is.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = _TIMEOUT) -> None:
        """
        @param url: C{unix:PATH}, or C{http://HOST:PORT}.
        @param token: what changing calls need that do not go to a UNIX socket.
        @raise Misused: the URL is none of these.
        """
        self.url = url
        self._token = token
        self._timeout = timeout
        self._connect()

    def get(self, path: str) -> Any:
        """
        @raise Failed: the daemon refuses.
        @raise Unreachable: no daemon answers.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, value: dict[str, Any]) -> Any:
        """As C{get}, for a call that changes something."""
        return self._ask("POST", path, json.dumps(value).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connect()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self._why(error)) from None
        finally:
            connection.close()
        try:
            value = json.loads(text)
        except ValueError:
            raise Unreachable(f"{self.url} is no admin server of kolus") from None
        if status == 401 and not self._token:
            raise Failed("a token is needed: give --token-file FILE, or set KOLUS_TOKEN")
        if status != 200:
            raise Failed(str(value.get("detail", status)))
        return value

    def _connect(self) -> http.client.HTTPConnection:
        kind, _, path = self.url.partition(":")
        if kind == "unix" and path:
            return _UnixConnection(path, self._timeout)
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host and kind == "http":
            return http.client.HTTPConnection(host, port or 80, timeout=self._timeout)
        if host and kind == "https":
            return http.client.HTTPSConnection(host, port or 443, timeout=self._timeout)
        raise Misused(
            f"--url {self.url!r} is no address; expected unix:/run/kolus/admin.sock or "
            "http://127.0.0.1:7481"
        )

    def _why(self, error: Exception) -> str:
        if isinstance(error, PermissionError):
            return f"{self.url}: you may not connect; run this as the user of the daemon"
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return (
                f"no daemon listens on {self.url}; start twistd kolus with --admin-listen, or say "
                "where it listens: --url or KOLUS_URL"
            )
        return f"{self.url} does not answer: {error or type(error).__name__}"


def path_of(*names: str) -> str:
    """The path of names that may hold any character."""
    return "/api/v1/" + "/".join([quote(each, safe="") for each in names])
