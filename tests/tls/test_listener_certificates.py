"""The certificates of a TLS listener: by name, demanded of clients, and read again."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from kolus.tls import CertificateError, ListenerCertificates, ListenerTLS
from tests.tls.conftest import Files
from tests.tls.shaking import Client, serve


def of(*paths: str, **settings: Any) -> ListenerCertificates:
    return ListenerCertificates(ListenerTLS(certificates=paths, **settings))


@pytest.fixture
def folder(files: Files) -> str:
    for name, identity in {
        "shop.example.pem": "shop.example",
        "_.shop.example.pem": "*.shop.example",
        "default.pem": "other.example",
    }.items():
        files.write(f"folder/{name}", identity)
    return str(files.folder / "folder")


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("shop.example", "shop.example"),
        ("SHOP.example", "shop.example"),
        ("www.shop.example", "*.shop.example"),
        ("other.example", "other.example"),
        (None, "other.example"),
    ],
)
def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(
    files: Files, folder: str, name: str | None, identity: str
) -> None:
    assert Client(files.ca, name).shake(serve(of(folder))) == {identity}


def test_a_wildcard_is_for_one_level_only(files: Files, folder: str) -> None:
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        Client(files.ca, "a.b.shop.example").shake(serve(of(folder)))


def test_without_a_default_other_names_get_no_handshake(files: Files, folder: str) -> None:
    os.remove(Path(folder) / "default.pem")
    assert Client(files.ca, "shop.example").shake(serve(of(folder))) == {"shop.example"}
    with pytest.raises((SSL.Error, ssl.SSLError)):
        Client(files.ca, "nobody.example").shake(serve(of(folder)))


def test_of_files_each_serves_the_names_in_it_and_the_first_all_others(files: Files) -> None:
    first = files.write("a.pem", "a.example", "b.example")
    second = files.write("c.pem", "*.c.example")
    certificates = of(first, second)
    assert certificates.names == ["*.c.example", "a.example", "b.example"]
    for name, found in {
        "b.example": {"a.example", "b.example"},
        "x.c.example": {"*.c.example"},
    }.items():
        assert Client(files.ca, name).shake(serve(certificates)) == found
    assert "a.example" in Client(files.ca, None).shake(serve(certificates))


def test_a_client_that_offers_h2_is_served_and_no_protocol_is_chosen(
    files: Files, folder: str
) -> None:
    client = Client(files.ca, "shop.example", alpn=["h2", "http/1.1"])
    client.shake(serve(of(folder)))
    assert client.tls.selected_alpn_protocol() is None


def test_the_server_name_is_known_after_the_handshake(files: Files, folder: str) -> None:
    server = serve(of(folder))
    Client(files.ca, "www.shop.example").shake(server)
    assert server.get_servername() == b"www.shop.example"


def test_a_client_certificate_is_demanded_if_there_is_an_authority_for_it(files: Files) -> None:
    path = files.write("a.pem", "a.example")
    mine, strange = (
        files.write("client.pem", "client"),
        files.write("s.pem", "c", authority=trustme.CA()),
    )
    certificates = of(path, client_ca=files.ca)
    server = serve(certificates)
    Client(files.ca, "a.example", certificate=mine).shake(server)
    assert server.get_peer_certificate() is not None
    for wrong in (None, strange):
        with pytest.raises((SSL.Error, ssl.SSLError)):
            Client(files.ca, "a.example", certificate=wrong).shake(serve(certificates))


def test_a_version_below_the_minimum_is_refused(files: Files) -> None:
    path = files.write("a.pem", "a.example")
    old = ssl.TLSVersion.TLSv1_2
    Client(files.ca, "a.example", most=old).shake(serve(of(path)))
    with pytest.raises((SSL.Error, ssl.SSLError)):
        Client(files.ca, "a.example", most=old).shake(serve(of(path, minimum_version="1.3")))
    Client(files.ca, "a.example").shake(serve(of(path, minimum_version="1.3")))


def test_renewed_files_are_used_after_a_reload(files: Files, folder: str) -> None:
    certificates = of(folder)
    files.write("folder/new.example.pem", "new.example")
    files.write("folder/shop.example.pem", "shop.example", "renewed.example")
    with pytest.raises(ssl.SSLError):
        Client(files.ca, "new.example").shake(serve(certificates))
    certificates.reload()
    assert Client(files.ca, "new.example").shake(serve(certificates)) == {"new.example"}
    renewed = Client(files.ca, "shop.example").shake(serve(certificates))
    assert renewed == {"shop.example", "renewed.example"}


def test_a_broken_file_keeps_the_certificates_as_they_were(files: Files, folder: str) -> None:
    certificates = of(folder)
    (Path(folder) / "shop.example.pem").write_text("half a certif")
    with pytest.raises(CertificateError, match=r"shop\.example\.pem has no PEM certificate"):
        certificates.reload()
    assert Client(files.ca, "shop.example").shake(serve(certificates)) == {"shop.example"}


def test_what_cannot_be_used_is_refused_with_setting_file_and_reason(
    files: Files, tmp_path: Path
) -> None:
    good, other = files.write("a.pem", "a.example"), files.write("b.pem", "b.example")
    key, certificate = Path(good).read_text().split("-----BEGIN CERTIFICATE", 1)
    bad = tmp_path / "bad.pem"
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    chain = "-----BEGIN CERTIFICATE" + certificate
    empty = tmp_path / "empty"
    empty.mkdir()
    for text, message in {
        key: "has no PEM certificate",
        chain: "has no PEM private key",
        Path(other).read_text().split("-----BEGIN CERTIFICATE")[0] + chain: "is not that of",
        encrypted.decode() + chain: "is encrypted",
    }.items():
        bad.write_text(text)
        with pytest.raises(CertificateError, match=rf"^tls\.certificates: .*{message}"):
            of(str(bad))
    for path, message in {
        str(tmp_path / "nope"): "cannot read .*nope: No such file or directory",
        str(empty): r"there is no \*\.pem in .*empty.*shop\.example\.pem",
    }.items():
        with pytest.raises(CertificateError, match=rf"^tls\.certificates: {message}"):
            of(path)
    with pytest.raises(CertificateError, match=r"^tls\.client_ca: cannot read .*nope"):
        of(good, client_ca=str(tmp_path / "nope"))
    bad.write_text("no certificate")
    with pytest.raises(CertificateError, match=r"^tls\.client_ca: .*has no PEM certificate"):
        of(good, client_ca=str(bad))
