"""C{twistd kolus} as systemd starts it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.conftest import require
from tests.net.child import CHECKOUT, LISTEN, twistd
from tests.net.servers import free_port
from tests.net.test_twistd_tls import ask
from tests.net.tunnel_peers import backend, connected, until
from tests.rigs.patience import PATIENCE

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


# In place of this program, as the first client connects.
_ACTIVATED = """
import os, sys
command = [{tool!r}, "--listen=127.0.0.1:{port}", "--fdname=carts"]
command += ["--setenv=NOTIFY_SOCKET={notify}", "--setenv=PYTHONPATH", sys.executable, "-c"]
command += ["from twisted.scripts.twistd import run; run()", *sys.argv[1:]]
os.execv(command[0], command)
"""


@pytest_twisted.ensureDeferred
async def test_the_client_that_has_systemd_start_it_is_served_and_a_reload_tells_its_time(
    tmp_path: Path,
) -> None:
    tool, notify, port = require("systemd-socket-activate", "systemd"), tmp_path / "n", free_port()
    run = _ACTIVATED.format(tool=tool, notify=notify, port=port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notify))
        manager.settimeout(PATIENCE)
        async with (
            backend(reactor) as echoes,
            twistd(
                *(reactor, "--backend", echoes.endpoint),
                *("--listen", "systemd:domain=INET:name=carts"),
                run=run,
            ) as child,
        ):
            await child.seen("Listening on")
            async with connected(reactor, port) as client:
                client.send(b"hello", end=True)
                await client.ended()
                assert bytes(client.got) == b"hello"
            assert manager.recv(1000) == b"READY=1\nSTATUS=serving"
            before = time.monotonic_ns() // 1000
            child.signal("HUP")
            await child.seen("the configuration is reloaded")
            begun, _, at = manager.recv(1000).decode().partition("\nMONOTONIC_USEC=")
            assert begun == "RELOADING=1"
            assert before <= int(at) <= time.monotonic_ns() // 1000
            assert manager.recv(1000) == b"READY=1\nSTATUS=reloaded"
            child.signal()
            await child.ended()
            assert manager.recv(1000) == b"STOPPING=1"


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


# As the unit has systemd rule it. Nothing happens in a kernel that does not know this rule.
_RULED = """
import ctypes
refuses_memory_that_is_written_and_executed = 65
ctypes.CDLL(None).prctl(refuses_memory_that_is_written_and_executed, {is_refused}, 0, 0, 0)
from twisted.scripts.twistd import run
run()
"""


@pytest_twisted.ensureDeferred
async def test_under_the_rules_of_the_unit_tls_clients_are_served(tmp_path: Path) -> None:
    unit = (CHECKOUT / "contrib" / "systemd" / "kolus.service").read_text()
    rules = dict(line.partition("=")[::2] for line in unit.splitlines() if not line.startswith("#"))
    is_refused = int(rules.get("MemoryDenyWriteExecute", "no") == "yes")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "front.pem")
    async with (
        backend(reactor) as echoes,
        twistd(
            *(reactor, "--backend", echoes.endpoint, *LISTEN),
            f"--tls-certificates={tmp_path}/front.pem",
            run=_RULED.format(is_refused=is_refused),
        ) as child,
    ):
        assert await deferToThread(ask, await child.port(), authority, []) == b"hello"
