"""The client's side of TLS to backends: verified unless told otherwise, with the server's name."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet.endpoints import clientFromString
from twisted.internet.testing import MemoryReactorClock as MemoryReactor

from kolus.tls import (
    BackendCertificates,
    BackendTLS,
    CertificateError,
    ListenerCertificates,
    ListenerTLS,
    SecuredEndpoint,
)
from tests.tls.conftest import Files
from tests.tls.shaking import Failing, serve


def shake(
    certificates: BackendCertificates, host: str, server: Any, failing: Failing | None = None
) -> None:
    """A handshake in memory.

    @raise SSL.Error: it fails.
    """
    protocol = failing or Failing()
    client = certificates.creator(host).clientConnectionForTLS(protocol)
    client.set_connect_state()
    done: set[Any] = set()
    for _ in range(10):
        for here, there in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                here.do_handshake()
                done.add(here)
            with suppress(SSL.WantReadError):
                there.bio_write(here.bio_read(65536))
    assert len(done) == 2


def server_of(path: str, **settings: Any) -> Any:
    return serve(ListenerCertificates(ListenerTLS(certificates=(path,), **settings)))


def test_a_backend_is_verified_by_its_host(files: Files) -> None:
    certificates = BackendCertificates(BackendTLS(ca=files.ca))
    server = server_of(files.write("a.pem", "a.example"))
    shake(certificates, "a.example", server)
    assert server.get_servername() == b"a.example"
    shake(certificates, "127.0.0.1", server_of(files.write("ip.pem", "127.0.0.1")))


def test_a_certificate_for_another_name_is_refused_with_the_reason(files: Files) -> None:
    certificates = BackendCertificates(BackendTLS(ca=files.ca))
    for host in ("b.example", "127.0.0.1"):
        failing = Failing()
        with pytest.raises(SSL.Error):
            shake(certificates, host, server_of(files.write("a.pem", "a.example")), failing)
        assert failing.failure is not None
        assert type(failing.failure.value).__name__ in ("VerificationError", "CertificateError")
        assert failing.failure.getTracebackObject() is None  # the log has one line
        assert f"its certificate is for a.example, not for {host}" in str(failing.failure.value)


def test_an_unknown_authority_is_refused_with_the_reason(files: Files) -> None:
    strange = files.write("a.pem", "a.example", authority=trustme.CA())
    for settings in (BackendTLS(ca=files.ca), BackendTLS()):
        failing = Failing()
        with pytest.raises(SSL.Error):
            shake(BackendCertificates(settings), "a.example", server_of(strange), failing)
        assert failing.failure is not None
        assert "is not signed by an authority that is trusted" in str(failing.failure.value)


def test_an_expired_certificate_is_refused_with_the_reason(files: Files) -> None:
    old = datetime.now(UTC) - timedelta(days=1)
    expired = files.write("a.pem", "a.example", expires_at=old)
    certificates, failing = BackendCertificates(BackendTLS(ca=files.ca)), Failing()
    with pytest.raises(SSL.Error):
        shake(certificates, "a.example", server_of(expired), failing)
    assert failing.failure is not None
    assert str(failing.failure.value) == "its certificate has expired"


def test_unverified_believes_whoever_answers_but_tells_the_name(files: Files) -> None:
    server = server_of(files.write("a.pem", "a.example", authority=trustme.CA()))
    shake(BackendCertificates(BackendTLS(verify=False)), "b.example", server)
    assert server.get_servername() == b"b.example"


def test_a_server_name_takes_the_place_of_the_host(files: Files) -> None:
    certificates = BackendCertificates(BackendTLS(ca=files.ca, server_name="a.example"))
    server = server_of(files.write("a.pem", "a.example"))
    shake(certificates, "10.0.0.7", server)
    assert server.get_servername() == b"a.example"


def test_a_client_certificate_is_shown(files: Files) -> None:
    server = server_of(files.write("a.pem", "a.example"), client_ca=files.ca)
    mine = files.write("client.pem", "client.example")
    shake(BackendCertificates(BackendTLS(ca=files.ca, certificate=mine)), "a.example", server)
    assert server.get_peer_certificate() is not None


def test_a_client_certificate_may_have_its_key_in_another_file(files: Files) -> None:
    both = Path(files.write("client.pem", "client.example")).read_text()
    key, _, certificate = both.partition("-----BEGIN CERTIFICATE")
    (files.folder / "key").write_text(key)
    (files.folder / "crt").write_text("-----BEGIN CERTIFICATE" + certificate)
    settings = BackendTLS(
        ca=files.ca, certificate=str(files.folder / "crt"), key=str(files.folder / "key")
    )
    server = server_of(files.write("a.pem", "a.example"), client_ca=files.ca)
    shake(BackendCertificates(settings), "a.example", server)


def test_a_renewed_authority_is_trusted_after_a_reload(files: Files) -> None:
    certificates = BackendCertificates(BackendTLS(ca=files.ca))
    new = trustme.CA()
    path = files.write("a.pem", "a.example", authority=new)
    new.cert_pem.write_to_path(files.ca)
    with pytest.raises(SSL.Error):
        shake(certificates, "a.example", server_of(path))
    certificates.reload()
    shake(certificates, "a.example", server_of(path))


def test_a_broken_file_keeps_what_was_trusted(files: Files) -> None:
    certificates = BackendCertificates(BackendTLS(ca=files.ca))
    path = files.write("a.pem", "a.example")
    Path(files.ca).write_text("nothing")
    with pytest.raises(CertificateError, match=r"^tls\.ca: .*has no PEM certificate"):
        certificates.reload()
    shake(certificates, "a.example", server_of(path))


@pytest.mark.parametrize("setting", ["ca", "certificate"])
def test_a_missing_file_is_refused(setting: str) -> None:
    settings = BackendTLS(**{setting: "/nope.pem"})  # type: ignore[arg-type]
    with pytest.raises(
        CertificateError, match=rf"^tls\.{setting}: cannot read /nope\.pem: No such"
    ):
        BackendCertificates(settings)


@pytest.mark.parametrize("endpoint", ["tcp:10.0.0.7:1", "tcp:a.example:1", r"tcp:\:\:1:1"])
def test_tls_begins_at_a_host(files: Files, endpoint: str) -> None:
    certificates = BackendCertificates(BackendTLS(ca=files.ca))
    made = SecuredEndpoint.around(clientFromString(MemoryReactor(), endpoint), certificates)
    assert str(made).endswith("with TLS")


def test_tls_at_a_unix_socket_needs_a_server_name_to_verify(files: Files) -> None:
    endpoint = clientFromString(MemoryReactor(), "unix:/run/db")
    with pytest.raises(ValueError, match=r"^tls\.server_name is needed"):
        SecuredEndpoint.around(endpoint, BackendCertificates(BackendTLS(ca=files.ca)))
    for settings in (BackendTLS(server_name="a.example"), BackendTLS(verify=False)):
        SecuredEndpoint.around(endpoint, BackendCertificates(settings))


@pytest.mark.parametrize("endpoint", ["tls:a.example:1", "ssl:a.example:1"])
def test_tls_is_not_begun_twice(files: Files, endpoint: str) -> None:
    certificates = BackendCertificates(BackendTLS(ca=files.ca))
    with pytest.raises(ValueError, match="write tcp in place of tls or ssl"):
        SecuredEndpoint.around(clientFromString(MemoryReactor(), endpoint), certificates)
