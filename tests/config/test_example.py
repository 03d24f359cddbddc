"""The example of a configuration: every key is in it, with its default, and it runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from kolus.config import FLAGS, config_from_flags, read_config
from kolus.support import at_once
from tests.net.child import CHECKOUT, twistd
from tests.net.tunnel_peers import backend, connected

EXAMPLE = CHECKOUT / "contrib" / "kolus.toml"
OFF = re.compile(r"^#(?=\w+ = |\[)", re.MULTILINE)


def tables(text: str) -> dict[str, Any]:
    """The tables, with the names of the only group and listener as the flags have them."""
    read = tomllib.loads(text)
    for kind in ("groups", "listeners"):
        (read[kind]["default"],) = read[kind].values()
    return read


def value_at(read: Any, path: tuple[str | int, ...]) -> Any:
    for each in path:
        read = read[each]
    return read


def test_the_example_has_no_mistake() -> None:
    config = at_once(read_config(str(EXAMPLE)))
    assert list(config.groups) == list(config.listeners) == ["carts"]


def test_the_example_has_every_key_with_its_default() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    everything = tables(OFF.sub("", text))
    off = "\n".join(re.findall(r"^#(\w+) = ", text, re.MULTILINE))
    for name, flag in FLAGS.items():
        value = value_at(everything, flag.path)
        default = re.search(r" \[default: (.*)\]$", flag.about)
        if default is not None and str(flag.path[-1]) in off.split():
            shown = str(value).lower() if isinstance(value, bool) else value
            assert str(shown).removesuffix(".0") == default[1], name


def test_the_example_has_no_other_key() -> None:
    paths = {flag.path for flag in FLAGS.values()}
    known = {*paths, *(path[:count] for path in paths for count in range(len(path)))}
    known.add(("listeners", "default", "group"))

    def check(value: Any, path: tuple[str, ...]) -> None:
        assert path in known
        if isinstance(value, dict):
            for key, each in value.items():
                check(each, (*path, key))

    everything = tables(OFF.sub("", EXAMPLE.read_text(encoding="utf-8")))
    for kind in ("groups", "listeners"):
        del everything[kind]["carts"]
    check(everything, ())


def test_the_flags_of_the_example_make_the_same_configuration() -> None:
    config = at_once(
        config_from_flags(
            [
                ("backend", "tcp:10.0.0.7:6379"),
                ("backend", "tcp:10.0.0.8:6379"),
                ("limit", "100"),
                ("check-kind", "exchange"),
                ("check-send", "PING\r\n"),
                ("check-expect", "+PONG"),
                ("listen", "tcp:6380:interface=127.0.0.1"),
                ("max-clients", "1000"),
            ]
        )
    )
    written = at_once(read_config(str(EXAMPLE)))
    assert config.groups["default"] == written.groups["carts"]
    assert config.listeners["default"].settings == written.listeners["carts"].settings
    assert (config.grace, config.name_servers) == (written.grace, written.name_servers)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_daemon_runs_with_the_example(tmp_path: Path) -> None:
    async with backend(reactor) as echoes:
        text = EXAMPLE.read_text(encoding="utf-8").replace("tcp:6380", "tcp:0")
        text = text.replace("tcp:10.0.0.7:6379", echoes.endpoint)
        text = text.replace('send = "PING\\r\\n"', 'send = "+PONG"')  # the backend echoes
        text = re.sub(r"    \{ endpoint = .*\n", "", text)
        path = tmp_path / "kolus.toml"
        path.write_text(text, encoding="utf-8")
        async with twistd(reactor, "--config", path) as child:
            async with connected(reactor, await child.port()) as client:
                client.send(b"hello", end=True)
                await client.ended()
                assert client.got == b"hello"
            child.signal()
            await child.ended()
