"""Handshakes in memory, between a client and a server of OpenSSL, without sockets."""

from __future__ import annotations

import ssl
from typing import Any

from OpenSSL import SSL
from twisted.python.failure import Failure

__all__ = ["Client", "Failing", "serve"]


class Client:
    """A client of Python's C{ssl}, which shares nothing with what is tested."""

    def __init__(
        self,
        ca: str,
        name: str | None,
        *,
        alpn: list[str] | None = None,
        certificate: str | None = None,
        most: ssl.TLSVersion | None = None,
    ) -> None:
        context = ssl.create_default_context(cafile=ca)
        if name is None:
            context.check_hostname = False
        if alpn:
            context.set_alpn_protocols(alpn)
        if certificate:
            context.load_cert_chain(certificate)
        if most:
            context.maximum_version = most
        self._to, self._from = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._to, self._from, server_hostname=name)

    def shake(self, server: Any) -> set[str]:
        """Shake hands with a server's C{OpenSSL.SSL.Connection}.

        @return: the names that the server's certificate is for.
        @raise ssl.SSLError: the handshake failed for the client.
        @raise SSL.Error: it failed for the server.
        """
        done = {"client": False, "server": False}
        for _ in range(10):
            try:
                self.tls.do_handshake()
                done["client"] = True
            except ssl.SSLWantReadError:
                pass
            server.bio_write(self._from.read() or b"") if self._from.pending else None
            try:
                server.do_handshake()
                done["server"] = True
            except SSL.WantReadError:
                pass
            try:
                self._to.write(server.bio_read(65536))
            except SSL.WantReadError:
                if all(done.values()):
                    break
        assert all(done.values())
        certificate: Any = self.tls.getpeercert()
        return {value for _, value in certificate["subjectAltName"]}


def serve(creator: Any) -> Any:
    """A server's connection of a creator, ready to shake hands."""
    connection = creator.serverConnectionForTLS(None)
    connection.set_accept_state()
    return connection


class Failing:
    """In place of Twisted's protocol for TLS: keeps why the verification failed."""

    failure: Failure | None = None

    def failVerification(self, failure: Failure) -> None:
        self.failure = failure
