"""The TLS settings of listeners and of backends."""

from __future__ import annotations

from typing import Any

import pytest

from kolus.tls import BackendTLS, ListenerTLS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("certificates", ()),
        ("certificates", "folder"),
        ("certificates", ("",)),
        ("client_ca", ""),
        ("minimum_version", "1.1"),
    ],
)
def test_a_wrong_value_of_tls_is_refused_with_the_name_of_its_key(name: str, value: Any) -> None:
    given = {"certificates": ("certificates",), name: value}
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        ListenerTLS(**given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verify", "no"),
        ("ca", ""),
        ("server_name", 7),
        ("server_name", "a b"),
        ("server_name", "a" * 70),
        ("certificate", False),
        ("key", "client.key"),
    ],
)
def test_a_wrong_value_of_a_backend_is_refused_with_the_name_of_its_key(
    name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        BackendTLS(**{name: value})


def test_backends_are_verified_unless_told_otherwise() -> None:
    assert BackendTLS().verify
    assert not BackendTLS(verify=False).verify
    with pytest.raises(ValueError, match=r"^ca .*verify is false"):
        BackendTLS(verify=False, ca="ca.pem")
