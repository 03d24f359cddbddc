"""The settings of a listener."""

from __future__ import annotations

from typing import Any

import pytest

from kolus.tls import ListenerTLS
from kolus.tunnel import ListenerSettings

_TLS = ListenerTLS(certificates=("certificates",))


def test_the_defaults_bound_what_could_hold_a_connection_for_ever() -> None:
    settings = ListenerSettings()
    bounded = (
        settings.queue_timeout,
        settings.client_timeout,
        settings.backend_timeout,
        settings.half_closed_timeout,
        settings.handshake_timeout,
        settings.proxy_header_timeout,
        settings.tcp_keepalive,
        settings.tcp_user_timeout,
    )
    assert all(bounded)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_timeout", None),
        ("queue_timeout", 0),
        ("queue_timeout", -1),
        ("client_timeout", "5"),
        ("client_timeout", True),
        ("backend_timeout", float("nan")),
        ("half_closed_timeout", 0.0),
        ("handshake_timeout", float("inf")),
        ("session_limit", -5),
        ("tcp_keepalive", 0),
        ("tcp_user_timeout", "soon"),
        ("max_clients", 0),
        ("max_clients_per_address", 1.5),
        ("max_new_clients", -1),
        ("ident", "name"),
        ("allow", ["10.0.0.0/8"]),
        ("allow", "10.0.0.0/8"),
        ("deny", ("10.0.0.7/8",)),
        ("accept_proxy_from", ("balancer",)),
        ("proxy_header_timeout", None),
        ("tls", "certificates"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_key(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        ListenerSettings(**{name: value})


def test_an_ident_by_server_name_needs_tls() -> None:
    with pytest.raises(ValueError, match=r"^ident .*without tls"):
        ListenerSettings(ident="server_name")
    assert ListenerSettings(ident="server_name", tls=_TLS).tls is _TLS


@pytest.mark.parametrize(
    "name",
    [
        "client_timeout",
        "backend_timeout",
        "half_closed_timeout",
        "session_limit",
        "tcp_keepalive",
        "tcp_user_timeout",
    ],
)
def test_what_may_be_without_bound_may(name: str) -> None:
    assert getattr(ListenerSettings(**{name: None}), name) is None  # type: ignore[arg-type]
