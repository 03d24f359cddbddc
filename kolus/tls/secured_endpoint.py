"""C{SecuredEndpoint}: another endpoint, with TLS in its connections."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from kolus.tls.backend_certificates import BackendCertificates

__all__ = ["SecuredEndpoint"]


@implementer(IStreamClientEndpoint)
class SecuredEndpoint:
    """Connects as another endpoint does, and begins TLS."""

    def __init__(
        self, endpoint: IStreamClientEndpoint, host: str, certificates: BackendCertificates
    ) -> None:
        """
        @param host: the name of the backend, unless the settings of C{certificates} give another.
        """
        self._endpoint = endpoint
        self._host = host
        self._certificates = certificates

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: as that of the other endpoint. It fires before the handshake: a caller that has
            to know that it is completed provides C{IHandshakeListener}.
        """
        creator = self._certificates.creator(self._host)
        wrapped: Any = wrapClientTLS(creator, self._endpoint)
        return wrapped.connect(protocolFactory)  # type: ignore[no-any-return]

    @classmethod
    def around(
        cls, endpoint: IStreamClientEndpoint, certificates: BackendCertificates
    ) -> SecuredEndpoint:
        """
        @param endpoint: connects to a host, or to a UNIX socket if the settings of C{certificates}
            give a server name or do not verify.
        @raise ValueError: it cannot begin TLS: it does so itself, or has no host.
        """
        settings = certificates.settings
        if isinstance(endpoint, UNIXClientEndpoint):
            if settings.verify and settings.server_name is None:
                raise ValueError(
                    "tls.server_name is needed: a UNIX socket has no host to verify; give the "
                    "name in the backend's certificate"
                )
            return cls(endpoint, "localhost", certificates)
        host = getattr(endpoint, "_host", None)
        if not isinstance(host, str) or isinstance(endpoint, SSL4ClientEndpoint):
            raise ValueError(
                "tls is for backends that are given as tcp:HOST:PORT or unix:PATH: write tcp in "
                "place of tls or ssl, and what it verifies into the settings of tls"
            )
        return cls(endpoint, host, certificates)

    def __str__(self) -> str:
        return f"{self._endpoint} with TLS"
