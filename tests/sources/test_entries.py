"""The entries of a file of backends, and the line that an error names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kolus.backend import Backend
from kolus.sources.entries import READERS, BadEntry, read_backends

ONE = '[[backend]]\nendpoint = "tcp:10.0.0.7:6379"\n'
OTHER = '[[backend]]\nendpoint = "tcp:10.0.0.8:6379"\n'


def test_the_order_is_that_of_the_file() -> None:
    expected = [Backend("tcp:10.0.0.8:6379"), Backend("tcp:10.0.0.7:6379")]
    assert read_backends((OTHER + ONE).encode(), ".toml") == expected


def test_an_ipv6_address_may_be_a_host() -> None:
    (backend,) = read_backends(b'[[backend]]\nhost = "::1"\nport = 80\n', ".toml")
    assert backend.endpoint == r"tcp:\:\:1:80"


def test_lines_may_end_as_on_windows() -> None:
    with pytest.raises(BadEntry) as caught:
        read_backends((ONE + OTHER + "speed = 3\n").replace("\n", "\r\n").encode(), ".toml")
    assert caught.value.line == 5


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_mark_of_utf_8_at_the_beginning_is_passed_over(suffix: str) -> None:
    text = (
        ONE if suffix == ".toml" else json.dumps({"backend": [{"endpoint": "tcp:10.0.0.7:6379"}]})
    )
    assert read_backends(text.encode("utf-8-sig"), suffix) == [Backend("tcp:10.0.0.7:6379")]


TOML_MISTAKES = {
    "no TOML": (ONE + "endpoint\n", 3, "Expected '='"),
    "an end too early": ('\n[[backend]]\nendpoint = """', 3, "Unterminated string"),
    "no UTF-8 after its mark": (b"\xef\xbb\xbf\n\xff", 2, "not UTF-8"),
    "no UTF-8": (ONE.encode() + b'name = "\xff"\n', 3, "not UTF-8"),
    "nothing": ("", 1, "lists no backend"),
    "an empty list": ("backend = []\n", 1, "lists no backend"),
    "a table instead of a list": ('\n[backend]\nendpoint = "tcp:a:1"\n', 2, "list of tables"),
    "a list of strings": ('\nbackend = ["tcp:a:1"]\n', 2, "a backend is a table"),
    "another table": (ONE + "\n[pool]\nlimit = 3\n", 4, "unknown key 'pool'"),
    "an unknown key": (ONE + OTHER + "speed = 3\n", 5, "unknown key 'speed'"),
    "a bad weight": (ONE + "\n" + OTHER + "weight = 0\n", 6, "weight must be a number from"),
    "a weight that is no number": (ONE + "weight = nan\n", 3, "weight must be a number from"),
    "a weight that is too large": (ONE + "weight = 1e308\n", 3, "weight must be a number from"),
    "a weight that is no float": (
        f"{ONE}weight = 1{'0' * 400}\n",
        3,
        "weight must be a number from",
    ),
    "a weight that is true": (ONE + "weight = true\n", 3, "to 1000000, not True"),
    "a bad limit": (ONE + 'limit = "5"\n', 3, "limit must be a whole number"),
    "a bad name": (ONE + "name = 5\n", 3, "name must be a string"),
    "a bad endpoint": (ONE + '[[backend]]\nendpoint = "x"\n', 3, "not a client endpoint string"),
    "an endpoint of numbers": ("[[backend]]\nendpoint = 5\n", 2, "endpoint must be a string"),
    "a bad port": ('[[backend]]\nhost = "a"\nport = "80"\n', 3, "port must be a whole number"),
    "a host without a port": (ONE + '[[backend]]\nhost = "a"\n', 3, "not host"),
    "both forms": (ONE + 'host = "a"\nport = 1\n', 1, "not endpoint and host and port"),
    "neither form": ("[[backend]]\nweight = 1\n", 1, "it has neither"),
    "one twice": (ONE + OTHER + ONE, 5, "is given twice (first in line 1)"),
    "a bad limit after a string like a header": (
        f"{ONE}zone = '''\n[[backend]]\n'''\nlimit = 0\n",
        6,
        "limit must be a whole number",
    ),
    "a number of too many digits": (
        f"{ONE}weight = 1{'0' * 5000}\n",
        3,
        "ValueError: Exceeds the limit (4300 digits) for integer string conversion",
    ),
    "a number of too many digits, in groups": (
        f"{ONE}name = '{'0' * 4000}'\nweight = 1{'_000' * 1500}\n",
        4,
        "Exceeds the limit",
    ),
    "a key of the third": (
        f'{ONE}{OTHER}[[backend]]\nendpoint = "tcp:a:1"\n\nwieght = 2\n[[backend]]\nwieght = 1\n',
        8,
        "unknown key 'wieght'; did you mean 'weight'?",
    ),
    "inline tables": ('\n\nbackend = [{host = "a"},\n{host = "b"}]\n', 3, "not host"),
}

JSON_MISTAKES = {
    "no JSON": ('{"backend": [\n{"host": }]}', 2, "Expecting value"),
    "nothing": ("", 1, "Expecting value"),
    "a list alone": ('\n["tcp:a:1"]', 1, "expected {"),
    "another key": ('{"backend": [],\n "x": 1}', 2, "unknown key 'x'"),
    "an empty list": ('{"backend": []}', 1, "lists no backend"),
    "no list": ('{\n"backend": {"host": "a"}}', 2, "list of tables"),
    "a bad entry": (
        '\n{"backend": [\n {"endpoint":\n  "tcp:a:1"},\n\n {"endpoint": "tcp:b:1", "weight": 0}]}',
        6,
        "weight must be a number from",
    ),
    "a bad entry under an escaped key": (
        '{"back\\u0065nd":\n[{"host": "a"}]}',
        1,
        "not host",
    ),
    "a number of too many digits": (
        f'{{"backend": [\n{{"endpoint": "tcp:a:1", "weight": 1{"0" * 5000}}}]}}',
        2,
        "Exceeds the limit",
    ),
    "one twice": (
        '{"backend": [\n{"endpoint": "tcp:a:1"},\n\n{"host": "a", "port": 1}]}',
        4,
        "line 2",
    ),
    "two lists": (
        '{"backend": [{"endpoint": "tcp:a:1"}],\n "backend": [{"host": "a"}, {"host": "b"}]}',
        None,
        "the key 'backend' is given twice in one object",
    ),
    "a key twice": (
        '{"backend": [{"endpoint": "tcp:a:1", "weight": 1, "weight": 2}]}',
        None,
        "the key 'weight' is given twice in one object",
    ),
    "half a character": (
        '{"backend": [\n{"endpoint": "tcp:a:1", "name": "\\ud800"}]}',
        2,
        "surrogates not allowed",
    ),
    "too deep": ('{"backend":' + "[" * 100_000, 1, "nested too deeply"),
}


@pytest.mark.parametrize(
    ("suffix", "mistake"),
    [
        *(pytest.param(".toml", each, id=f"TOML: {why}") for why, each in TOML_MISTAKES.items()),
        *(pytest.param(".json", each, id=f"JSON: {why}") for why, each in JSON_MISTAKES.items()),
    ],
)
def test_a_mistake_is_told_with_its_line(suffix: str, mistake: tuple[Any, int | None, str]) -> None:
    text, line, why = mistake
    with pytest.raises(BadEntry) as caught:
        read_backends(text.encode() if isinstance(text, str) else text, suffix)
    assert caught.value.line == line
    assert why in str(caught.value)


def test_a_decoder_that_breaks_is_told_without_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(text: str) -> Any:
        raise KeyError("a mistake of its own")

    monkeypatch.setattr("tomllib.loads", loads)
    with pytest.raises(BadEntry, match="KeyError: 'a mistake of its own'") as caught:
        read_backends(ONE.encode(), ".toml")
    assert caught.value.line is None


class Counted(str):
    """A text that notes how many of its characters were gone through for newlines."""

    gone_through = 0

    def count(self, part: str, start: Any = None, end: Any = None) -> int:  # type: ignore[override]
        Counted.gone_through += (len(self) if end is None else end) - (start or 0)
        return super().count(part, start, end)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize("is_wrong", [False, True])
def test_lines_are_counted_once_and_only_for_a_mistake(
    monkeypatch: pytest.MonkeyPatch, suffix: str, is_wrong: bool
) -> None:
    entries = [{"endpoint": f"tcp:10.0.0.{number}:1"} for number in range(100)]
    entries += [{"endpoint": "x"}] * is_wrong
    text = json.dumps({"backend": entries}, indent=1)
    if suffix == ".toml":
        text = "".join([f'[[backend]]\nendpoint = "{each["endpoint"]}"\n' for each in entries])
    monkeypatch.setattr(Counted, "gone_through", 0)
    parse, find_lines = READERS[suffix]
    counting = (parse, lambda text, count: find_lines(Counted(text), count))
    monkeypatch.setitem(READERS, suffix, counting)
    if is_wrong:
        with pytest.raises(BadEntry):
            read_backends(text.encode(), suffix)
    else:
        read_backends(text.encode(), suffix)
    assert Counted.gone_through <= is_wrong * len(text)
