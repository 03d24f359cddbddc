"""The stream of snapshots and events: it resumes, is bounded, and drops who does not read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.rigs.desk import Desk, Line

PATH = "/api/v1/events"


def follow(desk: Desk, last_id: str | None = None) -> Line:
    line = Line(desk.private)
    more = "" if last_id is None else f"Last-Event-ID: {last_id}\r\n"
    line.send(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
    return line


def events(line: Line) -> Iterator[tuple[str, str, Any]]:
    """The id, the kind and the value of each event so far."""
    body = line.got.partition(b"\r\n\r\n")[2].decode()
    for part in body.replace("\r\n", "\n").split("\n\n"):
        found = dict(each.split(": ", 1) for each in part.split("\n") if ": " in each)
        if "event" in found:
            yield found["id"], found["event"], json.loads(found["data"])


def kinds(line: Line) -> list[str]:
    return [kind for _, kind, _ in events(line)]


def test_a_stream_begins_with_a_snapshot_and_has_one_each_second(desk: Desk) -> None:
    line = follow(desk)
    assert b"text/event-stream" in line.got
    assert kinds(line) == ["snapshot"]
    desk.clock.pump([1, 1])
    assert kinds(line) == ["snapshot"] * 3
    line.close()


def test_what_happens_to_a_backend_is_told_between_two_snapshots(desk: Desk) -> None:
    line = follow(desk)
    desk.pool.eject(desk.backends[0])
    desk.clock.advance(1)
    assert kinds(line) == ["snapshot", "ejected", "snapshot"]
    _, _, value = list(events(line))[1]
    assert (value["group"], value["backend"]) == ("main", "a")
    assert value["seconds"] is None  # until it is admitted
    line.close()


def test_a_client_that_comes_again_gets_what_it_missed_once(desk: Desk) -> None:
    first = follow(desk)
    desk.pool.eject(desk.backends[0])
    desk.clock.advance(1)
    last = list(events(first))[-1][0]
    first.close()
    desk.pool.admit(desk.backends[0])
    desk.clock.advance(1)
    again = follow(desk, last)
    assert kinds(again) == ["admitted", "snapshot"]
    again.close()


def test_an_id_of_another_run_or_none_at_all_gives_a_snapshot_only(desk: Desk) -> None:
    desk.pool.eject(desk.backends[0])
    for wrong in ("x", "", "0123456789ab-0", "-1", "é-1", "1" * 5000):
        line = follow(desk, wrong)
        assert kinds(line) == ["snapshot"]
        line.close()


def test_a_client_that_missed_more_than_is_kept_gets_a_snapshot_only(desk: Desk) -> None:
    first = follow(desk)
    last = list(events(first))[-1][0]
    first.close()
    for _ in range(12):
        for _ in range(50):
            desk.pool.eject(desk.backends[0])
            desk.pool.admit(desk.backends[0])
        desk.clock.advance(1)
    line = follow(desk, last)
    assert kinds(line) == ["snapshot"]
    line.close()


def test_too_many_events_in_a_second_are_not_all_told(desk: Desk) -> None:
    line = follow(desk)
    for _ in range(500):
        desk.pool.eject(desk.backends[0])
        desk.pool.admit(desk.backends[0])
    desk.clock.advance(1)
    assert len(kinds(line)) <= 102
    line.close()


def test_nothing_is_kept_for_a_slow_reader_and_it_is_dropped_in_the_end(desk: Desk) -> None:
    line = follow(desk)
    before = len(line.got)
    line.channel.pauseProducing()
    desk.pool.eject(desk.backends[0])
    desk.clock.pump([1] * 10)
    assert len(line.got) == before
    line.channel.resumeProducing()
    desk.clock.advance(1)
    assert kinds(line) == ["snapshot", "ejected", "snapshot"]
    line.channel.pauseProducing()
    desk.clock.pump([1] * 17)
    assert line.is_closed
    assert len(desk.service.streams) == 0


def test_more_than_so_many_streams_are_refused() -> None:
    desk = Desk()
    lines = [follow(desk) for _ in range(33)]
    assert lines[32].answered().status == 503
    for each in lines:
        each.close()
    assert len(desk.service.streams) == 0
    again = follow(desk)
    assert kinds(again) == ["snapshot"]
    again.close()
    desk.end()


def test_a_server_that_stops_ends_its_streams(desk: Desk) -> None:
    line = follow(desk)
    desk.service.streams.stop()
    assert line.got.endswith(b"0\r\n\r\n")
    assert len(desk.service.streams) == 0
    line.close()
