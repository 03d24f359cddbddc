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


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as listening:
        port, inode = listening.getsockname()[1], os.fstat(listening.fileno()).st_ino
    (tmp_path / "net").mkdir()
    row = f"0: 00000000:{port:04X} 00000000:0000 0A 0 0 0 0 0 {inode}"
    (tmp_path / "net" / "tcp").write_text(f"sl ...\n{row}\n")
    (tmp_path / "7" / "fd").mkdir(parents=True)
    (tmp_path / "7" / "comm").write_text("them\n")
    for number in range(9):
        (tmp_path / "7" / "fd" / str(number)).touch()  # no link: as if it was gone
    (tmp_path / "7" / "fd" / "9").symlink_to(f"socket:[{inode}]")
    assert port_user(port, tmp_path) == "process 7, them"


def test_where_nobody_listens_or_nothing_can_be_read_there_is_no_name(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert port_user(bound.getsockname()[1]) is None
    assert port_user(80, tmp_path) is None
