"""The admin server of a real daemon, and the command C{kolus} against it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue

from kolus.cli.client import AdminClient, Failed, path_of
from tests.net.child import CHECKOUT, LISTEN, Child, twistd
from tests.net.tunnel_peers import backend, connected, until

pytestmark = pytest.mark.long


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="kolus") as short:  # a socket's path has a limit
        yield Path(short)


async def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command C{kolus}.

    @return: its exit status, and what it printed on stdout and stderr.
    """
    url = {"KOLUS_URL": f"unix:{folder}/admin.sock", "PYTHONPATH": str(CHECKOUT)}
    out, err, status = await getProcessOutputAndValue(
        sys.executable, ["-m", "kolus", *arguments], os.environ | url | environment
    )
    return status, out.decode(), err.decode()


def daemon(folder: Path, *arguments: str) -> Child:
    (folder / "token").write_text("open sesame\n")
    admin = (
        f"--admin-listen=unix:{folder}/admin.sock",
        "--admin-listen=tcp:0:interface=127.0.0.1",
        f"--admin-token-file={folder}/token",
    )
    return twistd(reactor, *LISTEN, *admin, *arguments)


async def ask(what: Any, *arguments: Any) -> Any:
    return await deferToThread(what, *arguments)


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest_twisted.ensureDeferred
async def test_a_token_that_every_user_can_read_is_warned_of(folder: Path, mode: int) -> None:
    token = folder / "token"
    token.touch(mode=mode)
    token.chmod(mode)
    async with daemon(folder, "--backend=tcp:127.0.0.1:1") as child:
        await child.port()
        warned = f"every user can read token_file {token}: chmod 600 {token}" in child.output
        assert warned == (mode == 0o644)


@pytest_twisted.ensureDeferred
async def test_an_operator_sees_and_steers_a_running_daemon(folder: Path) -> None:
    async with (
        backend(reactor) as one,
        backend(reactor) as two,
        daemon(folder, "--backend", one.endpoint, "--backend", two.endpoint) as child,
    ):
        port = await child.port()
        its = AdminClient(f"unix:{folder}/admin.sock")
        status, out, err = await run(folder, "drain", one.endpoint)
        assert (status, err) == (0, "")
        assert "ejected; no lease is held" in out
        await child.seen("admin over the UNIX socket: drain backend")
        for _ in range(3):
            async with connected(reactor, port) as client:
                client.send(b"hello", end=True)
                await client.ended()
                assert client.got == b"hello"
        assert (len(one.peers), len(two.peers)) == (0, 3)
        async with connected(reactor, port) as client:
            client.send(b"x")
            await client.has(1)
            (listed,) = await ask(its.get, path_of("listeners", "default", "clients"))
            assert (listed["state"], listed["backend"]) == ("served", two.endpoint)
            assert listed["address"].startswith("127.0.0.1:")
            status, out, _ = await run(folder, "close", "default", str(listed["number"]))
            assert (status, out) == (0, f"client {listed['number']} is closed\n")
            await client.lost()
        status, out, _ = await run(folder, "status", "--json")
        (group,) = json.loads(out)["groups"]
        assert group["backends"][0]["state"] == "ejected"
        assert [each["counters"]["leases"] for each in group["backends"]] == [0, 4]
        assert (await run(folder, "admit", one.endpoint))[0] == 0
        child.signal()
        await child.ended()


@pytest_twisted.ensureDeferred
async def test_over_tcp_only_the_token_lets_one_change_something(folder: Path) -> None:
    async with daemon(folder, "--backend=tcp:127.0.0.1:9") as child:
        port = (await child.seen(r"kolus admin listens on 127.0.0.1:(\d+)"))[1]
        await child.port()
        url = f"http://127.0.0.1:{port}"
        eject = path_of("groups", "default", "backends", "tcp:127.0.0.1:9", "eject")
        with pytest.raises(Failed, match="a token is needed"):
            await ask(AdminClient(url).post, eject, {})
        with pytest.raises(Failed, match="this is not the token"):
            await ask(AdminClient(url, "wrong").post, eject, {})
        told = await ask(AdminClient(url, "open sesame").post, eject, {})
        assert told["backend"]["state"] == "ejected"
        name = "tcp:127.0.0.1:9"
        tokens = ("--url", url, "--token-file", f"{folder}/token")
        assert (await run(folder, *tokens, "admit", name))[0] == 0
        status, _, err = await run(folder, "--url", url, "admit", name)
        assert status == 1
        assert err == "kolus: a token is needed: give --token-file FILE, or set KOLUS_TOKEN\n"
        assert (await run(folder, "--url", url, "admit", name, KOLUS_TOKEN="open sesame"))[0] == 0
        assert "open sesame" not in child.output


@pytest_twisted.ensureDeferred
async def test_the_metrics_and_the_events_of_a_daemon_agree_with_what_its_clients_did(
    folder: Path,
) -> None:
    async with backend(reactor) as one, daemon(folder, "--backend", one.endpoint) as child:
        at = int((await child.seen(r"kolus admin listens on 127.0.0.1:(\d+)"))[1])
        port = await child.port()
        for _ in range(3):
            async with connected(reactor, port) as client:
                client.send(b"hello", end=True)
                await client.ended()
        async with connected(reactor, at) as scraper, connected(reactor, at) as follower:
            scraper.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await scraper.ended()
            text = scraper.got.decode()
            place = f'{{backend="{one.endpoint}",pool="default"}}'
            for wanted in (
                f"kolus_leases_total{place} 3.0",
                f"kolus_connects_total{place} 3.0",
                f"kolus_finishes_total{place} 3.0",
                f"kolus_hold_seconds_count{place} 3.0",
                'kolus_served_clients_total{listener="default"} 3.0',
                'kolus_client_bytes_total{direction="sent",listener="default"} 15.0',
                'kolus_client_bytes_total{direction="received",listener="default"} 15.0',
                'kolus_session_seconds_count{listener="default"} 3.0',
            ):
                assert wanted in text
            follower.send(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(reactor, lambda: b"event: snapshot" in follower.got)
            assert (await run(folder, "eject", one.endpoint))[0] == 0
            await until(reactor, lambda: b"event: ejected" in follower.got)


@pytest_twisted.ensureDeferred
async def test_the_socket_is_for_its_owner_only_and_gone_at_the_end(folder: Path) -> None:
    async with daemon(folder, "--backend=tcp:127.0.0.1:9") as child:
        await child.port()
        await ask(AdminClient(f"unix:{folder}/admin.sock").get, path_of("status"))
        assert (folder / "admin.sock").stat().st_mode & 0o777 == 0o600
        child.signal()
        await child.ended()
        assert not (folder / "admin.sock").exists()


@pytest_twisted.ensureDeferred
async def test_a_drain_of_the_daemon_can_be_watched(folder: Path) -> None:
    async with backend(reactor) as one, daemon(folder, "--backend", one.endpoint) as child:
        port = await child.port()
        its = AdminClient(f"unix:{folder}/admin.sock")
        async with connected(reactor, port) as client:
            client.send(b"x")
            await client.has(1)
            child.signal()
            await child.seen("waiting up to 30 s for 1 clients to finish")
            told = await ask(its.get, path_of("status"))
            assert told["listeners"][0]["clients"] == 1
            client.send(b"", end=True)
            await client.ended()
        await child.ended()
        await until(reactor, lambda: child.status is not None)


@pytest_twisted.ensureDeferred
async def test_the_command_says_what_to_do_if_something_is_wrong(folder: Path) -> None:
    status, out, err = await run(folder, "status")
    assert (status, out) == (3, "")
    assert f"no daemon listens on unix:{folder}/admin.sock; start twistd kolus with" in err
    async with daemon(folder, "--backend=tcp:127.0.0.1:9") as child:
        await child.port()
        status, _, err = await run(folder, "eject", "tcp:127.0.0.1:8")
        assert status == 1
        assert err == "kolus: no backend 'tcp:127.0.0.1:8'; did you mean tcp:127.0.0.1:9?\n"
        status, _, err = await run(folder, "resize", "tcp:127.0.0.1:9", "none")
        assert status == 2
        assert "expected a whole number of at least 1, not 'none'" in err
    status, _, err = await run(folder, "--url", "nonsense", "status")
    assert status == 2
    assert "expected unix:/run/kolus/admin.sock" in err


@pytest_twisted.ensureDeferred
async def test_a_configuration_is_checked_as_the_daemon_does_it(folder: Path) -> None:
    file = folder / "kolus.toml"
    file.write_text(
        '[groups.main]\nbackends = ["tcp:127.0.0.1:9"]\n'
        '[listeners.main]\nlisten = ["tcp:0:interface=127.0.0.1"]\n'
        '[admin]\nlisten = ["tcp:7481"]\n'
    )
    status, _, err = await run(folder, "check-config", str(file))
    assert status == 1
    assert "lets other machines connect without TLS" in err
    file.write_text(file.read_text().replace("tcp:7481", "unix:/tmp/admin.sock"))
    assert (await run(folder, "check-config", str(file)))[0] == 0


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_taken_is_told_by_name(folder: Path) -> None:
    async with backend(reactor) as taken:
        number = taken.port.getHost().port
        at = f"--admin-listen=tcp:{number}:interface=127.0.0.1"
        async with twistd(reactor, *LISTEN, at, "--backend=tcp:127.0.0.1:9") as child:
            await child.seen("admin: cannot listen on tcp:")
            await child.ended()
