"""C{SecuredEndpoint}: another endpoint, with TLS in its connections."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
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
        @return: as that of the other endpoint. It fires before the handshake: whoever has to know
            that it is completed provides C{IHandshakeListener}.
        """
        creator = self._certificates.creator(self._host)
        wrapped: Any = wrapClientTLS(creator, self._endpoint)
        return wrapped.connect(protocolFactory)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"{self._endpoint} with TLS"
