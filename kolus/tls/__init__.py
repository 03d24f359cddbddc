"""TLS of listeners and of backends: settings, certificates from files, and reading them again.

It knows endpoints and transports, and nothing of pools and tunnels. It imports pyOpenSSL only when
TLS is used: C{pip install 'kolus[tls]'}.
"""

from kolus.tls.backend_certificates import BackendCertificates
from kolus.tls.certificate import Certificate
from kolus.tls.listener_certificates import ListenerCertificates
from kolus.tls.pem import CertificateError
from kolus.tls.secured_endpoint import SecuredEndpoint
from kolus.tls.settings import BackendTLS, ListenerTLS, TLSVersion

__all__ = [
    "BackendCertificates",
    "BackendTLS",
    "Certificate",
    "CertificateError",
    "ListenerCertificates",
    "ListenerTLS",
    "SecuredEndpoint",
    "TLSVersion",
]
