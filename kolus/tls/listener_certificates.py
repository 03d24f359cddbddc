"""C{ListenerCertificates}: the certificates of a TLS listener, one for each server name.

Its state is the table of OpenSSL's contexts by server name; C{reload} changes it, whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from kolus.tls.pem import (
    CertificateError,
    each_of,
    expiry_of,
    import_openssl,
    names_in,
    show_certificate,
    trust,
)
from kolus.tls.settings import ListenerTLS

__all__ = ["ListenerCertificates"]

_SETTING = "tls.certificates"
_SUFFIX = ".pem"
_DEFAULT = "default"
_SESSIONS = b"kolus"


@dataclass
class _Table:
    """Contexts by server name; C{default} is used if there is none for the name."""

    default: Any
    by_name: dict[str, Any] = field(default_factory=dict)
    expiries: dict[str, float] = field(default_factory=dict)


@implementer(IOpenSSLServerConnectionCreator)
class ListenerCertificates:
    """The server's side of TLS for the clients of a listener.

    The certificate is that of the exact name which the client tells, otherwise that of the wildcard
    which has the name, otherwise the default. If there is no default, the handshake fails. A client
    that offers protocols (ALPN) is served, and none is chosen: Twisted would end its handshake.
    """

    def __init__(self, settings: ListenerTLS) -> None:
        """
        @raise CertificateError: a file cannot be used.
        """
        self._settings = settings
        self._table = self._read()

    def reload(self) -> None:
        """Read the files again. Connected clients keep the certificates that they were shown.

        @raise CertificateError: a file cannot be used. Then all is as before.
        """
        self._table = self._read()

    @property
    def names(self) -> list[str]:
        """The server names that have certificates, sorted; C{*.example} is a wildcard."""
        return sorted(self._table.by_name)

    @property
    def expiries(self) -> dict[str, float]:
        """When the certificates in each file expire, in seconds since 1970."""
        return self._table.expiries

    def serverConnectionForTLS(self, tlsProtocol: object) -> Any:
        """Called by Twisted, for each client."""
        return import_openssl().Connection(self._table.default, None)

    def _read(self) -> _Table:
        paths = self._settings.certificates
        if len(paths) == 1 and os.path.isdir(paths[0]):
            return self._read_folder(paths[0])
        contexts = each_of(self._context, paths)
        table = _Table(contexts[0])
        for path, context in zip(paths, contexts, strict=True):
            table.expiries[path] = expiry_of(_SETTING, path)
            for name in names_in(_SETTING, path):
                table.by_name.setdefault(name, context)
        self._choose_by_name(table)
        return table

    def _read_folder(self, folder: str) -> _Table:
        try:
            found = sorted(each for each in os.listdir(folder) if each.endswith(_SUFFIX))
        except OSError as error:
            raise CertificateError(f"{_SETTING}: cannot read {folder}: {error.strerror}") from None
        if not found:
            raise CertificateError(
                f"{_SETTING}: there is no *.pem in {folder}: expected files such as "
                "shop.example.pem, _.shop.example.pem for a wildcard, or default.pem"
            )
        table = _Table(None)
        paths = [os.path.join(folder, each) for each in found]
        for each, path, context in zip(found, paths, each_of(self._context, paths), strict=True):
            name = each.removesuffix(_SUFFIX).lower()
            table.expiries[path] = expiry_of(_SETTING, path)
            if name == _DEFAULT:
                table.default = context
            else:
                table.by_name["*" + name[1:] if name.startswith("_.") else name] = context
        if table.default is None:
            table.default = self._context(None)
        self._choose_by_name(table)
        return table

    def _choose_by_name(self, table: _Table) -> None:
        def choose(connection: Any) -> None:
            context = _context_for(connection.get_servername(), table.by_name)
            if context is not None:
                connection.set_context(context)

        table.default.set_tlsext_servername_callback(choose)

    def _context(self, path: str | None) -> Any:
        """
        @param path: C{None}: a context without a certificate, with which every handshake fails.
        """
        SSL = import_openssl()
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        is_newest = self._settings.minimum_version == "1.3"
        context.set_min_proto_version(SSL.TLS1_3_VERSION if is_newest else SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_session_id(_SESSIONS)  # without it no session with a client certificate resumes
        context.set_alpn_select_callback(lambda *_: SSL.NO_OVERLAPPING_PROTOCOLS)
        loads: list[Callable[[], object]] = []
        if path is not None:
            loads.append(partial(show_certificate, context, _SETTING, path))
        if self._settings.client_ca is not None:
            loads.append(partial(trust, context, "tls.client_ca", self._settings.client_ca))
        each_of(lambda load: load(), loads)
        if self._settings.client_ca is not None:
            context.load_client_ca(self._settings.client_ca.encode())
            demanded = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            context.set_verify(demanded, lambda *given: bool(given[-1]))
        return context


def _context_for(told: bytes | None, by_name: dict[str, Any]) -> Any:
    if not told:
        return None
    name = told.decode("ascii", "replace").lower().rstrip(".")
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])
