"""Signals of the operating system, and what else happens to a real twistd from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from tests.net.child import CHECKOUT, LISTEN, twistd
from tests.net.servers import free_port
from tests.net.tunnel_peers import backend, connected, until
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long

its: Any = reactor


@pytest.mark.parametrize("name", ["HUP", "USR1", "USR2"])
@pytest_twisted.ensureDeferred
async def test_a_signal_that_is_not_to_end_ends_nothing(name: str) -> None:
    async with (
        backend(reactor) as echoes,
        twistd(reactor, "--backend", echoes.endpoint, *LISTEN) as child,
    ):
        port = await child.port()
        async with connected(reactor, port) as old:
            old.send(b"before")
            await until(reactor, lambda: bytes(old.got) == b"before")
            child.signal(name)
            if name == "USR2":
                await child.seen("listener default: 1 clients, 0 were served, 0 refused")
                await child.seen("group default .1 backends: idle 0, leased 1")
            async with connected(reactor, port) as new:
                new.send(b"new")
                await until(reactor, lambda: bytes(new.got) == b"new")
            old.send(b" and after")
            await until(reactor, lambda: bytes(old.got) == b"before and after")


_SIGNALLED = """
import os, signal
from twisted.plugins.kolus_plugin import kolus
kolus.options  # twistd has found the daemon, and will parse its options
for name in ("HUP", "USR1", "USR2"):
    os.kill(os.getpid(), getattr(signal, f"SIG{name}"))
from twisted.scripts.twistd import run
run()
"""


@pytest_twisted.ensureDeferred
async def test_signals_before_it_runs_are_kept_until_it_does() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(reactor, "--backend", echoes.endpoint, *LISTEN, run=_SIGNALLED) as child,
    ):
        await child.seen("the configuration is reloaded")
        await child.seen("listener default: 0 clients, 0 were served, 0 refused")
        child.signal("USR2")
        await child.seen("(?s)listener default.*listener default")


@pytest_twisted.ensureDeferred
async def test_a_second_signal_to_end_ends_it_at_once() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(reactor, "--backend", echoes.endpoint, *LISTEN, "--grace=3600") as child,
        connected(reactor, await child.port()) as client,
    ):
        client.send(b"here")
        await until(reactor, lambda: bytes(client.got) == b"here")
        child.signal()
        await child.seen("waiting up to 3600 s for 1 clients")
        child.signal()
        assert await child.ended() == -signal.SIGTERM
        assert "all connections are aborted" in child.output


@pytest_twisted.ensureDeferred
async def test_the_log_is_opened_anew_after_it_was_moved_away(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with (
        backend(reactor) as echoes,
        twistd(
            reactor, "--backend", echoes.endpoint, *LISTEN, before=("--logfile", str(log))
        ) as child,
    ):
        await until(reactor, lambda: log.exists() and "kolus listens on" in log.read_text())
        log.rename(tmp_path / "moved")
        child.signal("USR1")
        await until(reactor, log.exists)
        child.signal("USR2")
        await until(reactor, lambda: "listener default" in log.read_text())


def test_a_pipe_that_nobody_reads_does_not_stop_it() -> None:
    gone, port = free_port(), free_port()
    code = "from twisted.scripts.twistd import run; run()"
    command = [sys.executable, "-c", code, "-n", "--pidfile=", "kolus", "--wait=0.01"]
    command += [f"--backend=tcp:127.0.0.1:{gone}", f"--listen=tcp:{port}:interface=127.0.0.1"]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    child = subprocess.Popen(command, cwd=CHECKOUT, stdout=writing, stderr=writing)
    try:
        until_it_listens = time.monotonic() + PATIENCE
        while time.monotonic() < until_it_listens:
            try:
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                    assert client.recv(1) == b""  # closed, as there is no backend: it lives
                    break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            pytest.fail("it never listened")
        child.terminate()
        child.wait(PATIENCE)
    finally:
        child.kill()
        child.wait()
        os.close(reading)
        os.close(writing)


@pytest_twisted.ensureDeferred
async def test_an_address_that_it_cannot_listen_on_is_one_line() -> None:
    listen = "tcp:0:interface=192.0.2.1"
    async with twistd(reactor, "--backend=tcp:127.0.0.1:1", "--listen", listen) as child:
        assert await child.ended() == 1
        assert child.lines[-1].startswith(f"twistd kolus: cannot listen on {listen}: ")
        assert "this machine has no such address" in child.lines[-1]
        assert "Traceback" not in child.output


@pytest_twisted.ensureDeferred
async def test_a_log_that_cannot_be_opened_is_one_line() -> None:
    before = ("--logfile", "/nope/kolus.log")
    async with twistd(reactor, "--backend=tcp:127.0.0.1:1", *LISTEN, before=before) as child:
        assert await child.ended() == 1
        assert child.lines == [
            "twistd kolus: --logfile: cannot open /nope/kolus.log: No such file or directory"
        ]


@pytest_twisted.ensureDeferred
async def test_in_the_background_the_log_says_why_it_cannot_listen(tmp_path: Path) -> None:
    command = ["-c", "from twisted.scripts.twistd import run; run()", "--pidfile=twistd.pid"]
    command += ["kolus", "--backend=tcp:127.0.0.1:1", "--listen=tcp:0:interface=192.0.2.1"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    ended: Any = await getProcessOutputAndValue(sys.executable, command, environment, str(tmp_path))
    said, status = ended[1].decode(), ended[2]
    assert status == 1
    assert "cannot listen on tcp:0:interface=192.0.2.1" in said
    log = tmp_path / "twistd.log"
    told = "this machine has no such address: see the list of ip address"
    # The daemon tells its parent first, whose end is seen here, and then the log.
    await until(reactor, lambda: log.read_text().rstrip().endswith(told))
    assert "Traceback" not in log.read_text() + said


@pytest_twisted.ensureDeferred
async def test_nothing_is_read_again_while_it_ends() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(reactor, "--backend", echoes.endpoint, *LISTEN, "--grace=3600") as child,
        connected(reactor, await child.port()) as client,
    ):
        client.send(b"here")
        await until(reactor, lambda: bytes(client.got) == b"here")
        child.signal()
        await child.seen("waiting up to 3600 s for 1 clients")
        for name in ("HUP", "USR1", "USR2"):
            child.signal(name)
        await child.seen("nothing is read again: the daemon does not run yet, or is ending")
        await child.seen("listener default: 1 clients")
        client.send(b" still", end=True)
        await client.ended()
        assert bytes(client.got) == b"here still"
        assert await child.ended() == -signal.SIGTERM
