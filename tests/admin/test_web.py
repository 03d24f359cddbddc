"""HTTP itself: methods, paths, limits of size and time, dates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol

from kolus.admin.call import Answer
from kolus.admin.guard import Guard
from kolus.admin.resource import AdminResource
from kolus.admin.routes import Route, Routes
from kolus.admin.web import AdminSite
from tests.conftest import LoggedFailures
from tests.rigs.desk import Desk, Line

STATUS = "/api/v1/status"
RESIZE = "/api/v1/groups/main/backends/a/resize"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST", "BREW"])
def test_another_method_is_refused_with_the_right_one(desk: Desk, method: str) -> None:
    answered = desk.ask(method, STATUS)
    assert (answered.status, answered.headers["allow"]) == (405, "get, head")


def test_a_change_by_get_is_refused(desk: Desk) -> None:
    assert desk.ask("GET", RESIZE).headers["allow"] == "post"


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/v2/status", "/api/v1/status/x", "/%2e%2e"]
)
def test_an_unknown_path_says_where_to_look(desk: Desk, path: str) -> None:
    answered = desk.ask("GET", path)
    assert answered.status == 404
    assert "openapi.json" in answered.value["detail"]


@pytest.mark.parametrize("path", ["/api/%ff/status", "/api/v1/groups/%C3"])
def test_a_path_that_is_no_text_is_refused(desk: Desk, path: str) -> None:
    assert desk.ask("GET", path).status == 400


def test_a_body_that_is_too_long_is_refused_before_it_is_read(desk: Desk) -> None:
    line = Line(desk.private)
    line.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    answered = line.answered()
    assert (answered.status, line.is_closed) == (413, True)
    assert answered.value["title"] == "Request Entity Too Large"


def test_a_chunked_body_that_is_too_long_is_refused(desk: Desk) -> None:
    line = Line(desk.private)
    line.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        line.send(b"400\r\n" + bytes(1024) + b"\r\n")
    assert (line.answered().status, line.is_closed) == (413, True)


def test_headers_that_are_too_long_are_refused(desk: Desk) -> None:
    line = Line(desk.private)
    line.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
    for _ in range(10):
        line.send(b"X-Long: " + b"y" * 8000 + b"\r\n")
    assert line.is_closed
    assert line.got.startswith(b"HTTP/1.1 400")


def test_a_request_that_comes_a_line_at_a_time_is_ended(desk: Desk) -> None:
    line = Line(desk.private)
    line.send(b"GET / HTTP/1.1\r\n")
    for _ in range(9):
        desk.clock.advance(1)
        line.send(b"X-Slow: 1\r\n")
        assert not line.is_closed
    desk.clock.advance(1)
    assert (line.answered().status, line.is_closed) == (408, True)


def test_a_request_whose_first_line_comes_a_byte_at_a_time_is_ended(desk: Desk) -> None:
    line = Line(desk.private)
    for each in b"GET /abcde":
        assert not line.is_closed
        line.send(bytes([each]))
        desk.clock.advance(1)
    assert (line.answered().status, line.is_closed) == (408, True)


def test_a_client_that_ends_its_direction_gets_its_answer(desk: Desk) -> None:
    line = Line(desk.private)
    line.send(f"GET {STATUS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert IHalfCloseableProtocol.providedBy(line.channel)  # so Twisted does not drop the answer
    line.channel.readConnectionLost()
    assert (line.answered().status, line.is_closed) == (200, True)


def test_an_idle_connection_is_ended_and_a_busy_one_serves_many_requests(desk: Desk) -> None:
    line = Line(desk.private)
    for _ in range(3):
        desk.clock.advance(9)
        line.send(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert line.got.count(b"HTTP/1.1 200 OK") == 3
    desk.clock.advance(60)
    desk.clock.advance(15)
    assert line.is_closed


def test_dates_are_those_of_the_calendar_although_the_reactor_has_its_own_time(desk: Desk) -> None:
    told = parsedate_to_datetime(desk.ask("GET", STATUS).headers["date"].title())
    assert abs(told.timestamp() - time.time()) < 60
    assert abs(desk.ask("GET", STATUS).value["time"] - time.time()) < 60


def test_a_fault_is_answered_without_a_traceback_and_logged(
    desk: Desk, logged_failures: LoggedFailures
) -> None:
    pool, desk.main.pool = desk.main.pool, None
    answered = desk.ask("GET", STATUS)
    desk.main.pool = pool
    assert len(logged_failures.flush(AttributeError)) == 1
    assert answered.status == 500
    assert b"Traceback" not in answered.body


class Long:
    """A call whose answer is made in pieces, each of which takes a whole turn.

    @ivar made: the pieces that were made.
    """

    def __init__(self, desk: Desk, wrong: bool = False) -> None:
        self.made = 0
        self._clock = desk.clock
        self._wrong = wrong
        guard = Guard(is_private=True, hosts=(), token_file=None)
        route = Route("/long", "Long.", lambda call: Answer(self._pieces()), {})
        streams = desk.service.streams
        self.line = Line(AdminSite(desk.clock, AdminResource(Routes([route]), guard, streams)))
        self.line.send(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")

    def _pieces(self) -> Iterator[bytes]:
        for each in (b"one ", b"two ", b"three"):
            self.made += 1
            self._clock.rightNow += 0.01
            yield each
        if self._wrong:
            raise RuntimeError("wrong")


def test_a_long_answer_is_made_when_others_have_had_their_turn(desk: Desk) -> None:
    long = Long(desk)
    assert (long.made, long.line.got) == (1, b"")
    assert desk.ask("GET", STATUS).status == 200
    desk.clock.pump([0.0] * 5)
    assert (long.line.answered().status, long.line.answered().body) == (200, b"one two three")
    long.line.close()


def test_a_long_answer_is_not_made_for_a_client_that_has_left(desk: Desk) -> None:
    long = Long(desk)
    long.line.close()
    desk.clock.pump([0.0] * 5)
    assert (long.made, long.line.got) == (1, b"")


def test_a_fault_in_a_long_answer_is_logged_and_told(
    desk: Desk, logged_failures: LoggedFailures
) -> None:
    long = Long(desk, wrong=True)
    desk.clock.pump([0.0] * 5)
    assert long.line.answered().status == 500
    long.line.close()
    assert len(logged_failures.flush(RuntimeError)) == 1
