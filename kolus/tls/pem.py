"""Reads certificates and keys from PEM files into OpenSSL's contexts.

Functions only. Each raises C{CertificateError}, which names the setting and the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

__all__ = [
    "CertificateError",
    "each_of",
    "expiry_of",
    "import_openssl",
    "names_in",
    "show_certificate",
    "trust",
]


A = TypeVar("A")
T = TypeVar("T")


class CertificateError(ValueError):
    """Files of certificates or keys cannot be used. It has a text for each, which begins with the
    setting's name."""

    def __str__(self) -> str:
        return "\n".join(self.args)


def each_of(make: Callable[[A], T], arguments: Iterable[A]) -> list[T]:
    """What is made of each argument.

    @raise CertificateError: C{make} raised it; it has the texts of all of them.
    """
    made: list[T] = []
    texts: list[str] = []
    for each in arguments:
        try:
            made.append(make(each))
        except CertificateError as error:
            texts += error.args
    if texts:
        raise CertificateError(*dict.fromkeys(texts))
    return made


def import_openssl() -> Any:
    """The module C{OpenSSL.SSL}.

    @raise CertificateError: it is not installed.
    """
    try:
        from OpenSSL import SSL
    except ImportError:
        raise CertificateError("tls needs pyOpenSSL: pip install 'kolus[tls]'") from None
    return SSL


def show_certificate(context: Any, setting: str, certificate: str, key: str | None = None) -> None:
    """Let a context show a certificate, with its chain.

    @param setting: the name of the setting, for errors.
    @param certificate: a PEM file with the certificate, then its chain.
    @param key: a PEM file with its private key; C{None}: the same file.
    @raise CertificateError: a file cannot be read, or does not have what it should.
    """
    SSL = import_openssl()
    key = key or certificate
    each_of(partial(_check_readable, setting), (certificate, key))
    try:
        context.use_certificate_chain_file(certificate)
    except SSL.Error:
        raise CertificateError(f"{setting}: {certificate} has no PEM certificate") from None
    _check_key(setting, key)
    try:
        context.use_privatekey_file(key)
        context.check_privatekey()
    except SSL.Error:
        raise CertificateError(
            f"{setting}: the private key in {key} is not that of the certificate in {certificate}"
        ) from None


def trust(context: Any, setting: str, path: str) -> None:
    """Let a context trust the authorities in a PEM file, and no others.

    @raise CertificateError: the file cannot be read, or has no certificate.
    """
    SSL = import_openssl()
    _check_readable(setting, path)
    try:
        context.load_verify_locations(path)
    except SSL.Error:
        raise CertificateError(f"{setting}: {path} has no PEM certificate") from None


def names_in(setting: str, path: str) -> list[str]:
    """The DNS names that the first certificate of a PEM file is for, in lower case.

    @raise CertificateError: the file cannot be read, or has no certificate.
    """
    from cryptography import x509

    _check_readable(setting, path)
    try:
        with open(path, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except ValueError:
        raise CertificateError(f"{setting}: {path} has no PEM certificate") from None
    return [each.lower() for each in found.value.get_values_for_type(x509.DNSName)]


def expiry_of(setting: str, path: str) -> float:
    """When the first of the certificates in a PEM file expires, in seconds since 1970.

    @raise CertificateError: the file cannot be read, or has no certificate.
    """
    from cryptography import x509

    _check_readable(setting, path)
    try:
        with open(path, "rb") as file:
            chain = x509.load_pem_x509_certificates(file.read())
    except ValueError:
        raise CertificateError(f"{setting}: {path} has no PEM certificate") from None
    return min(each.not_valid_after_utc.timestamp() for each in chain)


def _check_key(setting: str, path: str) -> None:
    """OpenSSL itself would ask on the terminal for the password of an encrypted key."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(path, "rb") as file:
            load_pem_private_key(file.read(), None)
    except TypeError:
        raise CertificateError(
            f"{setting}: the private key in {path} is encrypted: expected one without a password"
        ) from None
    except ValueError:
        raise CertificateError(
            f"{setting}: {path} has no PEM private key: expected it beside the certificate"
        ) from None


def _check_readable(setting: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        why = error.strerror or str(error)
        raise CertificateError(f"{setting}: cannot read {os.fspath(path)}: {why}") from None
