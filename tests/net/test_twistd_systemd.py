"""C{twistd kolus} as systemd starts it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.conftest import require
from tests.net.child import CHECKOUT, twistd
from tests.net.tunnel_peers import backend, connected, until

its: Any = reactor

pytestmark = pytest.mark.long

# Systemd opens the socket, and gives it to the process as its descriptor 3.
_STARTED = """
import os, socket, sys
from twisted.scripts.twistd import run
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.environ |= {{"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "carts"}}
os.environ |= {{"NOTIFY_SOCKET": {notify!r}, "WATCHDOG_USEC": "100000"}}
run()
"""


@pytest_twisted.ensureDeferred
async def test_it_serves_on_the_socket_of_systemd_and_tells_it_how_it_is(tmp_path: Path) -> None:
    notify = str(tmp_path / "notify")
    messages: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(notify)
        manager.setblocking(False)

        def told(text: str) -> bool:
            with suppress(BlockingIOError):
                messages.append(manager.recv(1000).decode())
            return any(text in each for each in messages)

        async with (
            backend(reactor) as echoes,
            twistd(
                *(reactor, "--backend", echoes.endpoint),
                *("--listen", "systemd:domain=INET:name=carts"),
                run=_STARTED.format(notify=notify),
            ) as child,
        ):
            port = await child.port()
            await until(reactor, lambda: told("READY=1"))
            await until(reactor, lambda: told("WATCHDOG=1"))
            async with connected(reactor, port) as client:
                client.send(b"hello", end=True)
                await client.ended()
                assert bytes(client.got) == b"hello"
            child.signal("HUP")
            await until(reactor, lambda: told("RELOADING=1"))
            await until(reactor, lambda: told("STATUS=reloaded"))
            child.signal()
            await until(reactor, lambda: told("STOPPING=1"))
            await child.ended()


_STARTED_WITH_A_PATH = """
import os, socket
from twisted.scripts.twistd import run
listening = socket.socket(socket.AF_UNIX)
listening.bind({path!r})
os.chmod({path!r}, 0o640)
listening.listen(100)
os.dup2(listening.fileno(), 3)
os.environ |= {{"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "carts"}}
run()
"""


@pytest_twisted.ensureDeferred
async def test_the_path_of_a_socket_of_systemd_stays_as_it_is_and_at_the_end_too() -> None:
    with TemporaryDirectory(prefix="kolus") as folder:
        path = f"{folder}/socket"
        run = _STARTED_WITH_A_PATH.format(path=path)
        listen = "systemd:domain=UNIX:name=carts"
        async with (
            backend(reactor) as echoes,
            twistd(reactor, "--backend", echoes.endpoint, "--listen", listen, run=run) as child,
        ):
            await child.seen(f"kolus listens on {path}")
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
            async with connected(reactor, f"unix:{path}") as client:
                client.send(b"hello", end=True)
                await client.ended()
                assert bytes(client.got) == b"hello"
            child.signal()
            await child.ended()
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_the_units_have_no_mistake(tmp_path: Path) -> None:
    tool = require("systemd-analyze", "systemd")
    units = []
    for each in sorted((CHECKOUT / "contrib" / "systemd").iterdir()):
        unit = tmp_path / each.name
        text = each.read_text().replace("/opt/kolus/bin/twistd", "/bin/true")  # it must be there
        unit.write_text(text)
        units.append(str(unit))
    checked = subprocess.run([tool, "verify", *units], capture_output=True, text=True, check=False)
    ours = [
        line for line in checked.stderr.splitlines() if str(tmp_path) in line or "kolus" in line
    ]
    assert checked.returncode == 0, checked.stderr
    assert ours == []
