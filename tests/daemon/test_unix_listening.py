"""Listening on the path of a UNIX socket that somebody left there, or uses."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.testing import result_of

FACTORY = Factory.forProtocol(Protocol)


def endpoint(path: Path) -> Any:
    return listen_endpoint(reactor, f"unix:{path}")


def listen(path: Path) -> Any:
    return result_of(endpoint(path).listen(FACTORY))


def refused(made: Any) -> str:
    with pytest.raises(CannotListenError) as caught:
        result_of(made.listen(FACTORY))
    return str(caught.value.socketError)


@pytest_twisted.ensureDeferred
async def test_a_socket_on_which_nobody_listens_is_replaced_whatever_a_lock_names(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    (tmp_path / "s.lock").symlink_to(str(os.getpid()))
    port = listen(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await port.stopListening()


def test_a_socket_in_use_is_refused_with_the_process_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(path))
        holder.listen(1)
        assert refused(endpoint(path)) == (
            f"somebody listens on {path} already, process {os.getpid()}: stop it, or choose "
            "another path"
        )
        assert path.exists()


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made = endpoint(path)
    path.write_text("precious")
    with pytest.raises(ValueError, match="is no socket"):
        endpoint(path)
    assert "is no socket" in refused(made)
    assert path.read_text() == "precious"
