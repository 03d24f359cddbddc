"""Why the certificate of a backend is refused, in words for an operator."""

from __future__ import annotations

from typing import Any

__all__ = ["VerificationError", "why_not_for", "why_not_signed"]

_REASONS = {
    9: "is not valid yet",
    10: "has expired",
    **dict.fromkeys((2, 18, 19, 20, 21), "is not signed by an authority that is trusted (tls.ca)"),
}
"""OpenSSL's numbers of errors, X509_V_ERR."""
_MOST_NAMES = 5


class VerificationError(Exception):
    """The certificate of a backend is refused; the text says why."""


def why_not_signed(error: int, depth: int) -> str:
    """
    @param error: OpenSSL's number of what is wrong with the chain.
    @param depth: the place in the chain of the certificate that is wrong; 0: the backend's own.
    """
    whose = "the certificate of its authority" if depth else "its certificate"
    return f"{whose} {_REASONS.get(error, f'is refused by OpenSSL (error {error} of verify)')}"


def why_not_for(certificate: Any, name: str, is_address: bool) -> str:
    """
    @param certificate: of C{cryptography}.
    @return: why a certificate is not for a name or an address; empty if it is.
    """
    from service_identity import VerificationError as Mismatch
    from service_identity.cryptography import (
        verify_certificate_hostname,
        verify_certificate_ip_address,
    )

    verify = verify_certificate_ip_address if is_address else verify_certificate_hostname
    try:
        verify(certificate, name)
    except (Mismatch, ValueError):
        names = ", ".join(_names_of(certificate)[:_MOST_NAMES]) or "no name"
        return f"its certificate is for {names}, not for {name}; tls.server_name may say another"
    return ""


def _names_of(certificate: Any) -> list[str]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(each.value) for each in found.value]
