"""C{BackendCertificates}: whom the connections to backends trust, and what certificate they show.

Its state is one OpenSSL context; C{reload} changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.tls.pem import each_of, expiry_of, import_openssl, show_certificate, trust
from kolus.tls.settings import BackendTLS
from kolus.tls.verification import VerificationError, why_not_for, why_not_signed

__all__ = ["BackendCertificates"]


class BackendCertificates:
    """The client's side of TLS for the backends of a group.

    @ivar expiries: when the certificates in the file of the client certificate expire, in seconds
        since 1970; empty if there is none.
    """

    def __init__(self, settings: BackendTLS) -> None:
        """
        @raise CertificateError: a file cannot be used.
        """
        self.settings = settings
        self.expiries: dict[str, float] = {}
        self.reload()

    def reload(self) -> None:
        """Read the files again. Open connections stay as they are.

        @raise CertificateError: a file cannot be used. Then all is as before.
        """
        context, its = self._read(), self.settings.certificate
        self.expiries = {} if its is None else {its: expiry_of("tls.certificate", its)}
        self._context = context

    def creator(self, host: str) -> Any:
        """
        @param host: the host of the backend: its name, unless the settings give another.
        @return: an C{IOpenSSLClientConnectionCreator}. What it makes is of the files as they were
            read last.
        """
        return _Creator(self._connection, self.settings.server_name or host, self.settings.verify)

    def _connection(self) -> Any:
        return import_openssl().Connection(self._context, None)

    def _read(self) -> Any:
        SSL = import_openssl()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        its, loads = self.settings, [context.set_default_verify_paths]
        if its.ca is not None:
            loads = [partial(trust, context, "tls.ca", its.ca)]
        if its.certificate is not None:
            shown = partial(show_certificate, context, "tls.certificate")
            loads.append(partial(shown, its.certificate, its.key))
        each_of(lambda load: load(), loads)
        return context


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Tells the server's name (SNI), and verifies that the certificate is for it."""

    def __init__(self, connect: Callable[[], Any], name: str, verify: bool) -> None:
        self._connect = connect
        self._is_address = isIPAddress(name) or isIPv6Address(name)
        self._name = name if self._is_address else name.encode("idna").decode("ascii")
        self._verify = verify

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        connection = self._connect()
        if not self._is_address:
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        if self._verify:
            demanded = import_openssl().VERIFY_PEER
            connection.set_verify(demanded, partial(self._verified, ref(tlsProtocol)))
        return connection

    def _verified(
        self,
        protocol: Callable[[], Any],
        connection: object,
        certificate: Any,
        error: int,
        depth: int,
        is_signed: int,
    ) -> bool:
        """Called by OpenSSL for each certificate of the chain, the server's own last."""
        why = ""
        if not is_signed:
            why = why_not_signed(error, depth)
        elif not depth:
            why = why_not_for(certificate.to_cryptography(), self._name, self._is_address)
        if why and (failing := protocol()) is not None:
            failing.failVerification(Failure(VerificationError(why)))
        return not why
