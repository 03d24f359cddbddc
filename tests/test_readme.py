"""The README is short, and its commands are true. C{tests/docs} runs its programs."""

from __future__ import annotations

import shlex
import signal

import pytest_twisted
from twisted.protocols.memcache import MemCacheProtocol

from kolus import Pool
from tests.docs.conftest import memcached_port
from tests.net.child import twistd
from tests.rigs.pages import ROOT, Page

__all__ = ["memcached_port"]

README = Page(ROOT / "README.md")
COMMANDS = [block for block in README.blocks if block.language == "sh"]


def test_it_is_read_in_two_minutes() -> None:
    assert len(README.text.splitlines()) <= 200


def test_the_first_two_blocks_are_the_commands_for_a_new_machine() -> None:
    in_venv = "python3 -m venv .venv && .venv/bin/pip install -q"
    assert [each.text for each in README.blocks[:2]] == [
        f"{in_venv} . && .venv/bin/twistd -n --pidfile= kolus --demo 10\n",
        f"{in_venv} -e '.[test]' && .venv/bin/python -m pytest\n",
    ]


@pytest_twisted.ensureDeferred
async def test_the_front_that_it_starts_serves_a_client(memcached_port: int) -> None:
    from twisted.internet import reactor

    text = COMMANDS[2].text.replace("tcp:6380:", "tcp:0:")
    for theirs, ours in (("10.0.0.7", "127.0.0.1"), ("10.0.0.8", "localhost")):
        text = text.replace(f"{theirs}:6379", f"{ours}:{memcached_port}")
    command, *options = shlex.split(text)
    assert [command, *options[:3]] == [".venv/bin/twistd", "-n", "--pidfile=", "kolus"]
    async with twistd(reactor, *options[3:]) as child:
        clients = Pool(reactor, MemCacheProtocol)
        async with await clients.connect("client", ("127.0.0.1", await child.port())) as lease:
            assert await lease.protocol.version() == b"1"
        await clients.close()
        child.signal("TERM")
        assert await child.ended() == -signal.SIGTERM  # twistd ends by what it was told to end by


def test_the_page_of_the_daemon_shows_the_same_command() -> None:
    shown = [block.text for block in Page(ROOT / "docs" / "how-to" / "daemon.md").blocks]
    assert COMMANDS[2].text in shown
