"""The command C{kolus} without a daemon: its arguments, tables and completions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest

from kolus.cli import main
from kolus.cli.arguments import STEERING, make_parser
from kolus.cli.client import Failed, path_of
from kolus.cli.completions import completions
from kolus.cli.names import find_backend, only_group
from kolus.cli.tables import WIDTH, clients_table, fitting, status_table
from tests.rigs.desk import Client, Desk


def status(desk: Desk) -> Any:
    return desk.ask("GET", "/api/v1/status").value


@pytest.fixture
def busy() -> Any:
    """The status of a daemon with long names and large numbers."""
    desk = Desk()
    desk.lease()
    found = status(desk)
    desk.leases.clear()
    desk.end()
    group, listener = found["groups"][0], found["listeners"][0]
    group["name"], listener["name"] = "g" * 100, "l" * 100
    group["backends"][0] |= {"name": "n" * 100, "limit": 99999, "leased": 99999, "waiting": 99999}
    group["backends"][0]["counters"] |= {"leases": 10**12, "connect_failures": 10**7}
    listener |= {"clients": 10**5, "served": 10**9, "sent": 10**15, "addresses": ["a" * 99]}
    return found


def test_the_tables_fit_into_80_columns(busy: Any) -> None:
    lines = [*status_table(busy), *status_table(busy, busy)]
    assert max(map(len, lines)) <= WIDTH == 80
    desk = Desk()
    desk.front.clients.add(Client("[2001:db8:1234:5678:1234:5678:1234:5678]:65535"))
    clients = desk.ask("GET", "/api/v1/listeners/clients/clients").value
    assert max(map(len, clients_table(clients))) <= WIDTH
    desk.end()


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"kolus {version('kolus')}\n"


def test_rates_are_those_between_two_tables(busy: Any) -> None:
    later = {**busy, "time": busy["time"] + 2, "groups": [dict(busy["groups"][0])]}
    backends = [dict(each) for each in busy["groups"][0]["backends"]]
    counters = backends[1]["counters"]
    backends[1]["counters"] = {**counters, "leases": counters["leases"] + 50}
    later["groups"][0]["backends"] = backends
    (line,) = [each for each in status_table(later, busy) if each.startswith("b ")]
    assert line.split()[-2] == "25"


GROUPS = {
    "groups": [
        {"name": name, "backends": [{"name": each, "endpoint": f"tcp:{each}:1"} for each in its]}
        for name, its in (("cache", ["one", "two"]), ("pages", ["two", "three"]))
    ]
}


def test_a_backend_is_found_by_name_or_endpoint_in_any_group() -> None:
    assert find_backend(GROUPS, "one", None) == ("cache", "one")
    assert find_backend(GROUPS, "tcp:three:1", None) == ("pages", "three")
    assert find_backend(GROUPS, "two", "pages") == ("pages", "two")


@pytest.mark.parametrize(
    ("name", "group", "text"),
    [
        ("twoo", None, "no backend 'twoo'; did you mean two?"),
        ("nine", None, "there are: one, three, two, two"),
        ("two", None, "choose one of cache, pages with --group"),
        ("two", "page", "no group 'page'; did you mean pages?"),
    ],
)
def test_a_name_that_means_no_backend_or_several_is_told(
    name: str, group: str | None, text: str
) -> None:
    with pytest.raises(Failed, match=r"^(no|several) ") as caught:
        find_backend(GROUPS, name, group)
    assert text in str(caught.value)
    with pytest.raises(Failed, match="one of cache, pages"):
        only_group(GROUPS)


def test_a_name_may_hold_any_character_in_a_path() -> None:
    assert path_of("groups", "a/b c") == "/api/v1/groups/a%2Fb%20c"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completions_know_every_command(shell: str) -> None:
    script = completions(make_parser(), shell)
    for each in (*STEERING, "top", "status", "explain", "check-config", "completion"):
        assert each in script
    assert "json" in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash")
def test_bash_completes_commands_and_their_options() -> None:
    script = completions(make_parser(), "bash")
    ask = 'COMP_WORDS=(kolus {0} "{1}"); COMP_CWORD={2}; _kolus; echo "${{COMPREPLY[@]}}"'
    for words, part, wanted in (("", "dr", "drain"), ("status", "--j", "--json")):
        number = 1 + len(words.split())
        text = script + ask.format(words, part, number)
        done = subprocess.run(["bash"], input=text, text=True, capture_output=True, check=True)
        assert done.stdout == f"{wanted}\n"


def test_the_help_tells_the_exit_status_of_each_outcome(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert "3 no daemon answers" in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= 100


def test_a_token_file_that_cannot_be_read_is_told(capsys: Any) -> None:
    assert main(["--token-file", "/no/such", "status"]) == 2
    assert "--token-file /no/such cannot be read" in capsys.readouterr().err


def test_a_small_terminal_shows_the_begin_of_the_table(busy: Any) -> None:
    lines = list(status_table(busy))
    assert fitting(lines, 40, 5) == [each[:40] for each in lines[:4]]
    assert fitting(lines, 80, 100) == lines


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_an_output_that_cannot_be_written_is_told_in_one_line() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kolus", "completion", "bash"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    told = "kolus: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "say what to do, one of top, status, "),
        ("--url unix:/x", "say what to do, one of top, status, "),
        ("statu", "unknown COMMAND 'statu': did you mean status?"),
        ("STATUS", "unknown COMMAND 'STATUS': did you mean status?"),
        ("drian cache", "unknown COMMAND 'drian': did you mean drain?"),
        ("xyzzy", "unknown COMMAND 'xyzzy': there are: admit, "),
        ("completion bsh", "unknown shell 'bsh': did you mean bash?"),
        ("--ulr x status", "unknown option --ulr: did you mean --url?"),
        ("--token_file=x status", "unknown option --token_file: did you mean --token-file?"),
        ("--url top statu", "unknown COMMAND 'statu': did you mean status?"),
        ("status --jsno", "unknown option --jsno: did you mean --json?"),
        ("resize --grup g cache 5", "unknown option --grup: did you mean --group?"),
        ("resize --xyzzy cache 5", "unknown option --xyzzy: there are: --all, --group, --help"),
        ("status --url unix:/x", "--url stands before the command: kolus --url ..."),
        ("status cache", "unexpected argument 'cache'"),
        ("drain a b", "unexpected argument 'b'"),
    ],
)
def test_a_word_that_is_not_known_is_told_with_the_nearest(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
