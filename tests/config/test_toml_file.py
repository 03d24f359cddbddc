"""The daemon's TOML file: what it may hold, and what is said of its mistakes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kolus.backend import Backend
from kolus.checking import HealthCheck
from kolus.config import (
    FLAGS,
    AdminSettings,
    Config,
    ConfigError,
    Mistake,
    config_from_flags,
    read_config,
)
from kolus.config.from_tables import Check, config_from_tables, no_check
from kolus.support import at_once
from kolus.tls import BackendTLS, ListenerTLS
from kolus.tunnel import ListenerSettings

GOOD = """
grace = 5
name_servers = ["10.0.0.2"]

[groups.carts]
backends = ["tcp:10.0.0.7:6379", { endpoint = "tcp:10.0.0.8:6379", weight = 2 }]
limit = 50
balance = "least_leased"
tls = { ca = "ca.pem" }

[groups.carts.check]
kind = "exchange"
send = "PING\\r\\n"
expect = "+PONG"

[listeners.carts]
listen = "tcp:6380:interface=127.0.0.1"
allow = ["10.0.0.0/8"]
max_clients = 500

[listeners.carts.tls]
certificates = ["shop.pem"]

[admin]
listen = ["unix:admin.sock"]
"""


def read_file(name: str, check: Check = no_check) -> Config:
    return at_once(read_config(name, check))


def read_flags(given: list[tuple[str, str]]) -> Config:
    return at_once(config_from_flags(given))


def write(folder: Path, text: str) -> str:
    path = folder / "kolus.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def mistakes(folder: Path, text: str) -> list[str]:
    name = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        read_file(name)
    assert all(line.startswith(f"{name}, line ") for line in caught.value.lines)
    return [line.removeprefix(f"{name}, line ") for line in caught.value.lines]


def test_every_setting_of_groups_and_listeners_is_a_key(tmp_path: Path) -> None:
    config = read_file(write(tmp_path, GOOD))
    assert isinstance(config, Config)
    carts = config.groups["carts"]
    assert carts.backends == (Backend("tcp:10.0.0.7:6379"), Backend("tcp:10.0.0.8:6379"))
    assert carts.backends[1].weight == 2
    assert (carts.limit, carts.balance, carts.tls) == (50, "least_leased", BackendTLS(ca="ca.pem"))
    assert carts.check == HealthCheck(kind="exchange", send=b"PING\r\n", expect=b"+PONG")
    (listener,) = config.listeners.values()
    assert listener.listen == ("tcp:6380:interface=127.0.0.1",)
    assert listener.group == "carts"
    assert listener.settings == ListenerSettings(
        allow=("10.0.0.0/8",), max_clients=500, tls=ListenerTLS(certificates=("shop.pem",))
    )
    assert config.admin == AdminSettings(listen=("unix:admin.sock",))
    assert (config.grace, config.name_servers) == (5, ("10.0.0.2",))


def test_all_mistakes_are_told_at_once_with_line_and_key(tmp_path: Path) -> None:
    text = GOOD.replace("limit = 50", "limti = 50").replace("weight", "wieght")
    text = text.replace('"least_leased"', '"leas_leased"').replace("= 500", "= 0")
    text = text.replace("10.0.0.0/8", "10.0.0.0/80").replace("grace = 5", 'grace = "5"')
    assert mistakes(tmp_path, text) == [
        "2: grace must be a number of seconds, not '5'",
        "6: groups.carts.backends[1].wieght: unknown key 'wieght'; did you mean 'weight'?",
        "7: groups.carts.limti: unknown key: did you mean 'limit'?",
        "8: groups.carts.balance must be a balancer, not 'leas_leased': did "
        "you mean 'least_leased'?",
        "18: listeners.carts.allow[0]: not a network: '10.0.0.0/80'; expected for example "
        "'10.0.0.0/8', '2001:db8::/32', '10.0.0.7' or 'unix'",
        "19: listeners.carts.max_clients must be a whole number of at least 1, not 0; "
        '"none" takes the bound away',
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("listen =", "listn =", "17: listeners.carts.listn: unknown key: did you mean 'listen'?"),
        ("[admin]", "[amdin]", "24: amdin: unknown key: did you mean 'admin'?"),
        ("limit = 50", "limit = 5\nconnect_ahead = 6", "8: groups.carts.connect_ahead"),
        ('"tcp:10.0.0.7:6379"', '"10.0.0.7:6379"', "did you mean tcp:10.0.0.7:6379?"),
        ('"tcp:10.0.0.7:6379"', "7", "6: groups.carts.backends[0] must be a text such as"),
        ("max_clients", 'group = "cart"\nmax_clients', "did you mean 'carts'?"),
        ('expect = "+PONG"', "", "11: groups.carts.check: expect must not be empty"),
        ('["shop.pem"]', "[]", "22: listeners.carts.tls.certificates must name a folder or a file"),
        ('["shop.pem"]', "[1]", "22: listeners.carts.tls.certificates[0] must be a string"),
        ('listen = ["unix:admin.sock"]', "", "24: admin: listen is missing"),
        ("[listeners.carts]", "[listeners.carts]\ngrace = 3", "it belongs before the first table"),
        ("grace = 5", "limit = 5", "2: limit: unknown key here: it belongs in [groups.NAME]"),
        (
            '{ endpoint = "tcp:10.0.0.8:6379", weight = 2 }]',
            '{ endpoint = "tcp:a:1", name = "n" }, { endpoint = "tcp:a:2", name = "n" }]',
            "6: groups.carts.backends[2] has the name 'n' twice; choose another",
        ),
        (
            "[groups.carts]",
            '[groups.more]\nbackends = ["tcp:a:1"]\n[groups.carts]',
            "listeners.carts.group is missing: say which, one of carts, more",
        ),
        (
            "allow",
            "handshake_timeout = 0\nallow",
            "handshake_timeout must be a number of seconds above 0",
        ),
        ("allow", "client_timeout = inf\nallow", "18: listeners.carts.client_timeout must be"),
        ('"tcp:6380:interface=127.0.0.1"', "[]", "17: listeners.carts.listen must say where"),
        ("tls = {", "tls = [", "9: "),
        ("[listeners.carts]", "[listeners]", "17: listeners.listen must be a table"),
        ('["10.0.0.2"]', '["dns.test"]', "3: name_servers[0]: not a name server"),
        (
            "limit = 50",
            "max_clients = 5",
            "7: groups.carts.max_clients: unknown key here: it belongs in [listeners.NAME]; or did "
            "you mean 'max_waiters'?",
        ),
        (
            "limit = 50",
            "max_client = 5",
            "7: groups.carts.max_client: unknown key: did you mean 'max_clients'? It belongs in "
            "[listeners.NAME]",
        ),
        ("limit = 50", "rise = 5", "unknown key here: it belongs in [groups.NAME.check]"),
        (
            "limit = 50",
            'source = "dns:a.test:1"',
            "7: groups.carts.source: source and backends are both given",
        ),
        ('["10.0.0.0/8"]', '[""]', "18: listeners.carts.allow[0]: not a network: ''"),
        (
            "[admin]",
            '[admin]\nhosts = ["http://a.test"]',
            "25: admin.hosts[0] must have names without",
        ),
        ("[admin]", '[admin]\nhosts = ["a.test:80"]', "25: admin.hosts[0] must have names without"),
        ("[groups.carts]", '[groups.""]\n[groups.carts]', "5: groups.: not a name: ''"),
        ("weight = 2", 'name = ""', "6: groups.carts.backends[1].name must have characters"),
        (
            "max_clients",
            "wait = 5\nmax_clients",
            "19: listeners.carts.wait: unknown key: in a file --wait is 'queue_timeout' in [li",
        ),
        ("limit = 50", "wait = 5", "7: groups.carts.wait: unknown key: in a file --wait is"),
        ("max_clients", "queue-timeout = 5\nmax_clients", "did you mean 'queue_timeout'?"),
        (
            "backends",
            "backend",
            "6: groups.carts.backend: unknown key: in a file --backend is 'back",
        ),
        ("limit = 50", "check-rise = 5", "--check-rise is 'rise' in [groups.NAME.check]"),
        ("limit = 50", "check_rise = 5", "--check-rise is 'rise' in [groups.NAME.check]"),
        ("allow", "tls-client-ca = 'a'\nallow", "is 'client_ca' in [listeners.NAME.tls]"),
        ("allow", "backend_tcp_keepalive = 5\nallow", "is 'tcp_keepalive' in [groups.NAME]"),
        ("name_servers", "name_server", "3: name_server: unknown key: in a file --name-server is"),
        (
            "grace = 5",
            "admin_listen = 'a'",
            "2: admin_listen: unknown key: in a file --admin-listen",
        ),
        ("allow", "client_timeout = 0\nallow", 'not 0; "none" takes the bound away'),
        ("allow", "client_timeout = 'never'\nallow", "'never'; \"none\" takes the bound away"),
        ("limit = 50", "max_waiters = -1", '-1; "none" takes the bound away'),
        ("limit = 50", "limit = 'none'", "of at least 1, not 'none'"),
        ('["10.0.0.0/8"]', '"10.0.0.0/8, unix"', 'several are a list: ["...", "..."]'),
        ('["10.0.0.2"]', '"10.0.0.2,10.0.0.3"', 'several are a list: ["...", "..."]'),
        (
            '"tcp:10.0.0.7:6379"',
            '"tcp:a:1,tcp:b:1"',
            "(the port is missing; expected tcp:HOST:PORT); s",
        ),
        (
            "limit = 50",
            "fail_fast = 'yes'",
            "7: groups.carts.fail_fast must be true or false, not 'y",
        ),
        (
            "limit = 50",
            "eject_after = 'never'",
            "7: groups.carts.eject_after must be a whole number",
        ),
        ('tls = { ca = "ca.pem" }', "tls = true", "9: groups.carts.tls must be a table, not True"),
        ("[groups.carts.check]", "[group.carts.check]", "11: group: unknown key here"),
        ("weight = 2 }", "weight = '2' }", "6: groups.carts.backends[1].weight must be a number"),
        (
            '"tcp:10.0.0.7:6379"',
            '{ host = "a" }',
            "6: groups.carts.backends[0]: a backend has either",
        ),
        ("weight = 2", 'host = "a"', "a host and a port; not endpoint and host"),
        ("weight = 2 }", "wait = 2 }", "6: groups.carts.backends[1].wait: unknown key"),
        (
            "[admin]",
            "[admin]\nenabled = true",
            "25: admin.enabled: unknown key: expected one of allow",
        ),
        (
            "[admin]",
            "[admin]\ntoken = 'a'",
            "25: admin.token: unknown key: did you mean 'token_file'?",
        ),
        ("grace = 5", "grace = '5s'", "2: grace must be a number of seconds, not '5s'"),
        ("weight = 2", 'name = "a\\u001bb"', "name must have characters that can be printed"),
    ],
)
def test_a_mistake_says_where_and_what_is_expected(
    before: str, after: str, expected: str, tmp_path: Path
) -> None:
    assert expected in "\n".join(mistakes(tmp_path, GOOD.replace(before, after)))


def test_a_flag_that_is_given_as_a_key_leads_to_its_key(tmp_path: Path) -> None:
    keys = {str(flag.path[-1]) for flag in FLAGS.values()}
    for flag in FLAGS.values():
        name = flag.name.replace("-", "_")
        if name not in keys:
            told = mistakes(tmp_path, GOOD.replace("limit = 50", f"{name} = 5"))
            assert f"in a file --{flag.name} is '{flag.path[-1]}' " in "\n".join(told)


def test_all_mistakes_of_one_list_are_told(tmp_path: Path) -> None:
    text = GOOD.replace('["10.0.0.0/8"]', '["x",\n "10.0.0.0/8",\n "y"]').replace("= 500", "= 0")
    text = text.replace('["10.0.0.2"]', '["10.0.0.2", "z", "10.0.0.2", ""]')
    text = text.replace('"tcp:6380:interface=127.0.0.1"', '["tcp:1", 2, 3]')
    text = text.replace('["shop.pem"]', '["", "shop.pem", ""]')
    text = text.replace("[admin]", '[admin]\nhosts = ["/", "a.test", 5, "a:1", 6]')
    text = text.replace("weight = 2 }", 'weight = 2 }, "tcp:10.0.0.7:6379", "tcp:10.0.0.8:6379"')
    told = [each.split(": ", 1) for each in mistakes(tmp_path, text)]
    assert [each[1].partition(":")[0].partition(" ")[0] for each in told] == [
        *("name_servers[1]", "name_servers[2]", "name_servers[3]"),
        *("groups.carts.backends[2]", "groups.carts.backends[3]"),
        *("listeners.carts.listen[1]", "listeners.carts.listen[2]"),
        *("listeners.carts.allow[0]", "listeners.carts.allow[2]", "listeners.carts.max_clients"),
        *("listeners.carts.tls.certificates[0]", "listeners.carts.tls.certificates[2]"),
        *("admin.hosts[2]", "admin.hosts[4]", "admin.hosts[0]", "admin.hosts[3]"),
    ]
    assert [each[0] for each in told if "allow" in each[1]] == ["18", "20"]
    assert told[-1][1].endswith("without scheme and port, such as kolus.example, not 'a:1'")


@pytest.mark.parametrize(
    ("before", "after", "only"),
    [
        ('kind = "exchange"', "kind = 5", "kind must be a text"),
        ('kind = "exchange"', 'kind = "exchang"', "kind must be "),
        ("limit = 50", 'limit = "x"\nconnect_ahead = 20', "limit must be a whole number"),
        ("allow", 'ident = "server_name"\nallow', None),
        ('["shop.pem"]', "[]", "certificates must name"),
    ],
)
def test_a_mistake_is_not_told_again_as_that_of_another_key(
    before: str, after: str, only: str | None, tmp_path: Path
) -> None:
    text = GOOD.replace(before, after)
    if only is None:  # without a certificate there is no TLS, but that is no mistake of ident
        text, only = text.replace('["shop.pem"]', "[5]"), "certificates[0] must be a string"
    (told,) = mistakes(tmp_path, text)
    assert only in told


def test_what_is_missing_hides_no_mistake(tmp_path: Path) -> None:
    text = GOOD.replace('certificates = ["shop.pem"]', 'minimum_version = "1.1"')
    text = text.replace('listen = ["unix:admin.sock"]', 'hosts = ["/"]\nallow_remote = 5')
    told = mistakes(tmp_path, text)
    for each in (
        "listeners.carts.tls: certificates is missing",
        "listeners.carts.tls.minimum_version must be",
        "admin: listen is missing",
        "admin.hosts[0] must have",
        "admin.allow_remote must be",
    ):
        assert each in "\n".join(told)
    assert len(told) == 5


def test_a_group_and_a_listener_are_needed(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "grace = 1") == [
        "1: groups must have a table for each group, such as [groups.main]",
        "1: listeners must have a table for each listener, such as [listeners.main]",
    ]


def test_what_only_the_machine_shows_is_told_with_its_line(tmp_path: Path) -> None:
    name = write(tmp_path, GOOD)

    def check(config: Config) -> list[Mistake]:
        return [Mistake(("listeners", "carts", "listen", 0), "no such interface")]

    with pytest.raises(ConfigError, match=r"line 17: listeners.carts.listen\[0\]: no such inter"):
        read_file(name, check)


def test_only_a_whole_key_is_left_out_of_what_begins_with_it(tmp_path: Path) -> None:
    name = write(tmp_path, GOOD)

    def check(config: Config) -> list[Mistake]:
        return [Mistake(("groups", "carts", "tls", "ca"), "cannot read ca.pem")]

    with pytest.raises(ConfigError, match=r"line 9: groups.carts.tls.ca: cannot read ca.pem"):
        read_file(name, check)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\n\xff", "line 2: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("[a]".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
        (b"a = b\n", "line 1, column 5: Invalid value; a text is in quotes"),
        (b"[a]\r\n[a]\r\n", "line 2, column 3: Cannot declare"),
        (b"a = [", "line 1: "),
        (b"a = 5s\n", r"line 1, column 6: Expected newline .*; a text is in quotes, such as"),
        (b"a = 1,000\n", r"line 1, column 6: Expected newline .*; a text is in quotes"),
        (b"a = None\n", r"line 1, column 5: Invalid value; .* others are 5, true"),
        (b"a: 5\n", r"line 1, column 2: Expected '=' after a key .*; write KEY = VALUE"),
        (b'a = ["b" "c"]\n', r"line 1, column 10: Unclosed array; .* a comma is between two"),
        (b"a = 1\na = 2\n", r"line 2, column 6: Cannot overwrite a value; it stands there before"),
    ],
)
def test_a_file_that_is_no_toml_says_where(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "kolus.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        read_file(str(path))


def test_what_windows_writes_at_begin_and_end_of_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kolus.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_file(str(path)) == read_file(write(tmp_path, GOOD))
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").replace("= 500", "= 0").encode())
    with pytest.raises(ConfigError, match=r"line 19: listeners\.carts\.max_clients"):
        read_file(str(path))


def test_a_header_before_tls_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("limit = 50", 'limit = 50\nsend_proxy = "v2"')
    (told,) = mistakes(tmp_path, text)
    assert "groups.carts.send_proxy: does not go together with tls" in told


def test_no_repr_and_no_message_shows_a_secret(tmp_path: Path) -> None:
    text = GOOD.replace("PING", "AUTH hunter2").replace(
        '"tcp:10.0.0.7:6379"', '"tls:a.test:443:password=hunter2"'
    )
    assert "hunter2" not in repr(read_file(write(tmp_path, text)))
    for before, after in (
        ('"tls:a.test:443:password=hunter2"', '"nope:a.test:443:password=hunter2"'),
        ('"tls:a.test:443:password=hunter2"', '{ endpoint = "tls:password=hunter2", weight = 0 }'),
        ("tls = {", 'tls = [{ password = "hunter2" }] #'),
        ("[admin]", '[[admin]]\ntoken = "hunter2"'),
        ("[admin]", '[admin]\ntoken = "hunter2"'),
        ('kind = "exchange"', 'kind = "tcp"'),
        ('send = "AUTH hunter2', 'send = ["AUTH hunter2"] #'),
    ):
        assert before in text
        assert "hunter2" not in "\n".join(mistakes(tmp_path, text.replace(before, after)))


def test_a_mistake_in_a_table_of_many_lines_has_the_line_of_its_key(tmp_path: Path) -> None:
    tables = '[[groups.a.backends]]\nendpoint = "tcp:a:1"\n'
    text = f"{tables}{tables}limit = 3\nweight = 0\n{tables}limti = 3\n[listeners.a]\nlisten = 'x'"
    assert [told.partition("must")[0] for told in mistakes(tmp_path, text)] == [
        "6: groups.a.backends[1].weight ",
        "9: groups.a.backends[2].limti: unknown key 'limti'; did you mean 'limit'?",
    ]


WRONG = [True, 7, 7.5, "x", [], ["x"], [7], {}, {"x": 7}]
"""A value of each type; each of the wrong type for most keys."""


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_no_value_of_a_wrong_type_is_a_fault_of_ours(name: str, tmp_path: Path) -> None:
    flag = FLAGS[name]
    refused = 0
    for wrong in WRONG:
        tables: Any = tomllib.loads(GOOD.replace("carts", "default"))
        table = tables
        for key in flag.path[:-1]:
            table = table.setdefault(key, {})
        table[flag.path[-1]] = wrong
        mistakes: list[Mistake] = []
        if at_once(config_from_tables(tables, no_check, mistakes)) is None:
            refused += 1
            assert all(each.why for each in mistakes)
    assert refused >= 5


def test_a_number_may_be_without_a_bound(tmp_path: Path) -> None:
    text = GOOD.replace("max_clients = 500", 'client_timeout = "none"\nmax_clients = "none"')
    (listener,) = read_file(write(tmp_path, text)).listeners.values()
    assert (listener.settings.client_timeout, listener.settings.max_clients) == (None, None)
    assert listener.settings.backend_timeout == 3600
    (line,) = mistakes(tmp_path, GOOD.replace("limit = 50", 'limit = "none"'))
    assert line == "7: groups.carts.limit must be a whole number of at least 1, not 'none'"
    given = [("backend", "tcp:127.0.0.1:1"), ("listen", "tcp:0"), ("tcp-keepalive", "none")]
    assert read_flags(given).listeners["default"].settings.tcp_keepalive is None


def test_words_and_texts_that_look_like_numbers_are_taken_from_flags(tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    given = [("backend", "tcp:127.0.0.1:1"), ("listen", "tcp:0"), ("takeover", "7")]
    given += [("tls-minimum-version", "1.3"), ("tls-certificates", "1"), ("tls-client-ca", "1")]
    given += [("check-kind", "exchange"), ("check-send", "1"), ("check-expect", "2.0")]
    config = read_flags(given)
    assert config.takeover == "7"
    tls = ListenerTLS(certificates=("1",), client_ca="1", minimum_version="1.3")
    assert config.listeners["default"].settings.tls == tls
    check = HealthCheck(kind="exchange", send=b"1", expect=b"2.0")
    assert config.groups["default"].check == check
