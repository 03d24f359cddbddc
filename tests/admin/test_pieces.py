"""Long answers are made over several turns of the reactor: clients are served between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from kolus import Backend
from kolus.admin import call, resource, stream
from kolus.support import Work
from kolus.testing.results import result_of
from tests.admin.test_stream import follow, kinds
from tests.rigs.desk import Client, Desk

MANY = 300


@pytest.fixture
def many() -> Iterator[Desk]:
    """A desk for many backends, each with a lease, and many clients."""
    desk = Desk()
    desk.group.close()
    backends = [Backend(desk.fakes[0], name=f"backend {each}") for each in range(MANY)]
    desk.main.group = desk.pool.group(backends, name="main")
    for each in backends:
        desk.leases.append(result_of(desk.pool.connect("us", each)))
        desk.front.clients.add(Client("192.0.2.7:4711"))
    yield desk
    desk.end()


def paths(desk: Desk) -> list[str]:
    """Every call that reads."""
    names = {"group": "main", "backend": "backend 7", "listener": "clients"}
    described: Any = desk.ask("GET", "/api/v1/openapi.json").value["paths"]
    found = [path.format(**names) for path, its in described.items() if "get" in its]
    return [each.replace(" ", "%20") for each in found if "/page/" not in each and each != "/"]


def test_no_answer_has_a_piece_that_grows_with_backends_or_clients(
    many: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, list[int]] = {}
    plain, now = call.joined, ""

    def joined(pieces: Iterable[bytes]) -> Work[bytes]:
        def each() -> Iterator[bytes]:
            for piece in pieces:
                sizes[now].append(len(piece))
                yield piece

        sizes[now] = []
        return plain(each())

    asked = paths(many)
    for module in (resource, stream):
        monkeypatch.setattr(module, "joined", joined)
    for now in asked:
        if now.endswith("/events"):
            follow(many).close()
        else:
            assert many.ask("GET", now).status == 200
    now = "pause"
    assert many.ask("POST", "/api/v1/groups/main/pause").status == 200
    now = "resume"
    assert many.ask("POST", "/api/v1/groups/main/resume").status == 200
    assert len(sizes) == 11
    large = {path: max(its) for path, its in sizes.items() if max(its) > 3000}
    assert large.keys() == {"/api/v1/openapi.json", "/metrics"}  # of a fixed size
    assert large["/metrics"] < 40_000
    assert len(sizes["/metrics"]) > 2 * MANY


def test_a_status_of_many_backends_is_the_same_as_that_of_each(many: Desk) -> None:
    (group,) = many.ask("GET", "/api/v1/status").value["groups"]
    assert [each["name"] for each in group["backends"]] == [f"backend {n}" for n in range(MANY)]
    assert len(group["managers"]) == MANY
    told = many.ask("GET", "/api/v1/explain").value
    assert told["text"].count("1 lease, the oldest first") == MANY
    assert len(told["managers"]) == MANY


def test_a_snapshot_that_takes_long_is_made_less_often() -> None:
    desk = Desk()
    line = follow(desk)
    assert kinds(line) == ["snapshot"]

    def slow() -> Iterator[int]:
        for _ in range(1000):
            desk.clock.rightNow += 0.0015
            yield 1

    desk.service.streams._snapshot = lambda: {"groups": slow()}
    desk.clock.advance(1.0)
    while len(kinds(line)) < 2:
        desk.clock.advance(0)
    desk.clock.advance(5.9)
    assert len(kinds(line)) == 2  # it took 1.5 s, so that there is none for 6 s
    desk.clock.advance(0.2)
    while len(kinds(line)) < 3:
        desk.clock.advance(0)
    line.close()
    desk.end()


def test_counts_of_more_than_a_thousand_backends_do_not_begin_anew() -> None:
    desk = Desk()
    measured = desk.service._measures.of("main")
    backends = [Backend(f"tcp:127.0.0.1:{each + 1}") for each in range(1500)]
    fake = desk.fakes[0]
    for each in backends:
        result_of(desk.pool.connect("us", Backend(fake, name=each.endpoint))).release()
    assert measured.metrics.dropped == 0
    assert len(list(measured.durations)) == 1500
    desk.end()
