"""The addresses of a listener: what is made of them, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from kolus.daemon.listening.listen_endpoint import listen_endpoint


def told(description: str) -> str:
    with pytest.raises(ValueError, match="not a server endpoint string") as caught:
        listen_endpoint(reactor, description)
    return str(caught.value)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("7480", "did you mean tcp:7480?"),
        ("127.0.0.1:7480", "did you mean tcp:7480:interface=127.0.0.1?"),
        ("*:7480", "did you mean tcp:7480?"),
        ("/run/x.sock", "did you mean unix:/run/x.sock?"),
        ("tpc:80", "unknown kind 'tpc'; did you mean tcp:80?"),
        ("carts:80", "unknown kind 'carts'; expected for example tcp:6380:interface=127.0.0.1"),
        ("tcp", "the port is missing"),
        ("tcp:abc", "'abc' is not a number"),
        ("tcp:65536", "its port is not from 0 to 65535"),
        ("tcp:1:interfaces=::1", "unknown argument 'interfaces'; did you mean 'interface'?"),
        ("haproxy:tcp:abc", "'haproxy:tcp:abc' ('abc' is not a number"),
        ("unix:/nope/x.sock", "there is no folder /nope"),
        ("ssl:7480", "expected ssl:7480:privateKey=key.pem:certKey=certificate.pem"),
        ("ssl:7480:privateKey=/nope.pem", "cannot read /nope.pem: No such file or directory"),
        ("tcp:[::1]:7480", r"for example tcp6:7480:interface=\:\:1"),
        ("tcp6:7480:interface=::1", r"for example tcp6:7480:interface=\:\:1"),
        ("[::1]:7480", r"for example tcp6:7480:interface=\:\:1"),
        ("", "it is empty; expected for example"),
        ("tcp: 7480", "there is a space in it: leave it out"),
        (" unix:/run/x.sock", "there is a space in it: leave it out"),
        (f"unix:/{'x' * 107}", "its path has 108 bytes, and that of a socket at most 107"),
        ("unix:/tmp", "/tmp is there, and is no socket: choose another path"),
        ("unix:/tmp/x:mode=999", "mode is in octal, for example mode=660"),
        ("systemd:domain=INET:index=7", "systemd gave this process no socket of this index"),
        ("tls:7480", "give tcp:PORT, and tls.certificates in a file or --tls-certificates"),
        ("systemd:domain=INET:name=x", "systemd gave this process no socket of the name 'x'"),
    ],
)
def test_a_wrong_address_gets_a_message_that_says_what_to_write(
    description: str, expected: str
) -> None:
    assert expected in told(description)


def test_a_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    path.write_text("hello")
    expected = "privateKey= and certKey= must name PEM files of a key and its certificate"
    assert expected in told(f"ssl:7480:privateKey={path}")


def test_no_message_shows_a_password() -> None:
    assert "hunter2" not in told("ssl:7480:password=hunter2")


def test_an_address_of_ipv6_may_be_escaped() -> None:
    made: Any = listen_endpoint(reactor, r"tcp6:0:interface=\:\:1")
    assert made._interface == "::1"


def test_a_socket_may_be_in_a_folder_that_is_there(tmp_path: Path) -> None:
    made: Any = listen_endpoint(reactor, f"unix:{tmp_path}/x.sock")
    assert made.path == f"{tmp_path}/x.sock"
