"""Who listens on a port."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kolus.support.port_user import port_user


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_process_that_listens_is_named(family: socket.AddressFamily) -> None:
    with socket.create_server(("", 0), family=family) as listening:
        port = listening.getsockname()[1]
        found = port_user(port)
    assert found is not None
    assert found.startswith(f"process {os.getpid()}, ")


def test_where_nobody_listens_or_nothing_can_be_read_there_is_no_name(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert port_user(bound.getsockname()[1]) is None
    assert port_user(80, tmp_path) is None
