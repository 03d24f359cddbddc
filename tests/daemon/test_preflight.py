"""What only this machine shows to be wrong is told together with what the file shows."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from kolus.config import FLAGS, ConfigError, Mistake, read_config
from kolus.config.from_tables import config_from_tables
from kolus.daemon.preflight import preflight
from kolus.support import at_once

WRONG = """\
grace = "ten"
grase = 5
[admin]
listen = ["tcp:7481"]
token_file = "/nope/token"
tokn_file = "x"
[groups.carts]
backends = ["tcp:127.0.0.1:abc", "tcp:127.0.0.1:7379"]
limit = -1
tls = { ca = "/nope/ca.pem", verfy = true }
[groups.empty]
[listeners.carts]
listen = ["tcp:99999", "tcp:6380"]
group = "cart"
max_clients = 1.5
[listeners.carts.tls]
certificates = "/nope/certificates"
minimum = "1.2"
[listeners.other]
listen = "tcp:6380"
group = "empty"
"""


def test_all_mistakes_are_told_at_once_those_of_the_machine_too(tmp_path: Path) -> None:
    path = tmp_path / "kolus.toml"
    path.write_text(WRONG)
    with pytest.raises(ConfigError) as caught:
        at_once(read_config(str(path), partial(preflight, reactor)))
    lines = [line.removeprefix(f"{path}, line ") for line in str(caught.value).splitlines()]
    assert [line.partition(": ")[0] for line in lines] == [
        *("1", "2", "4", "5", "6", "8", "9", "10", "10", "11"),
        *("13", "14", "15", "17", "18", "20"),
    ]
    told = "\n".join(lines)
    for each in (
        "4: admin.listen[0]: 'tcp:7481' lets other machines connect",
        "5: admin.token_file: cannot be read: No such file",
        "10: groups.carts.tls.ca: cannot read /nope/ca.pem",
        "11: groups.empty: no backends and no source",
        "13: listeners.carts.listen[0]: not a server endpoint string",
        "17: listeners.carts.tls.certificates: cannot read /nope/certificates",
        "20: listeners.other.listen[0]: tcp:6380 is in listeners.carts.listen, too",
    ):
        assert each in told


RIGHT = """
[groups.default]
backends = ["tcp:10.0.0.7:6379"]
[listeners.default]
listen = "tcp:6380:interface=127.0.0.1"
"""


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_the_machine_is_looked_at_whatever_is_wrong(name: str) -> None:
    flag = FLAGS[name]
    for wrong in (7, "x", [7], {"x": 7}):
        tables: Any = tomllib.loads(RIGHT)
        table = tables
        for key in flag.path[:-1]:
            table = table.setdefault(key, {})
        table[flag.path[-1]] = wrong
        mistakes: list[Mistake] = []
        work = config_from_tables(tables, partial(preflight, reactor), mistakes)
        assert at_once(work) is not None or mistakes
