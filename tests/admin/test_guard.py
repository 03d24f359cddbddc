"""Who may read and who may change something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.desk import Desk

STATUS = "/api/v1/status"
EJECT = "/api/v1/groups/main/backends/a/eject"
TOKEN = "correct horse battery staple"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Desk]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    desk = Desk(token_file=str(token), hosts=("ops.example",))
    yield desk
    desk.end()


def state(desk: Desk) -> str:
    return desk.pool.status(desk.backends)[0].state.value


def test_a_change_over_the_unix_socket_needs_no_token(guarded: Desk) -> None:
    assert guarded.ask("POST", EJECT).status == 200
    assert state(guarded) == "ejected"


def test_a_change_over_tcp_needs_the_token(guarded: Desk) -> None:
    for wrong in (None, "", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"):
        answered = guarded.ask("POST", EJECT, public=True, authorization=wrong)
        assert answered.status == 401, wrong
        assert answered.headers["www-authenticate"].startswith("bearer")
        assert TOKEN.encode() not in answered.body
    assert state(guarded) == "absent"
    answered = guarded.ask("POST", EJECT, public=True, authorization=f"Bearer {TOKEN}")
    assert answered.status == 200


def test_a_token_that_is_replaced_is_the_one_that_counts(guarded: Desk) -> None:
    assert guarded.settings.token_file is not None
    path = Path(guarded.settings.token_file)
    path.write_text("another")
    assert guarded.ask("POST", EJECT, public=True, authorization="Bearer another").status == 200
    path.write_text("\n")
    assert guarded.ask("POST", EJECT, public=True, authorization="Bearer ").status == 503
    path.unlink()
    assert guarded.ask("POST", EJECT, public=True, authorization="Bearer x").status == 503


def test_without_a_token_file_tcp_is_read_only(desk: Desk) -> None:
    answered = desk.ask("POST", EJECT, public=True, authorization="Bearer ")
    assert answered.status == 403
    assert "read-only" in answered.value["detail"]
    assert desk.ask("GET", STATUS, public=True).status == 200


OURS = ("localhost", "LOCALHOST:7481", "127.0.0.1:7481", "[::1]:7481", "192.0.2.1", "ops.example:1")


@pytest.mark.parametrize("host", OURS)
def test_a_host_header_of_this_server_is_taken(guarded: Desk, host: str) -> None:
    assert guarded.ask("GET", STATUS, public=True, host=host).status == 200


FOREIGN = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "a b")


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_header_is_refused_so_that_dns_rebinding_fails(
    guarded: Desk, host: str
) -> None:
    headers = {"host": host, "authorization": f"Bearer {TOKEN}"}
    assert guarded.ask("GET", STATUS, public=True, **headers).status == 421
    assert guarded.ask("POST", EJECT, public=True, **headers).status == 421
    assert state(guarded) == "absent"


def test_a_request_without_or_with_two_host_headers_is_refused(guarded: Desk) -> None:
    assert guarded.ask("GET", STATUS, public=True, host=None).status == 421
    twice = "localhost\r\nHost: evil.example"
    assert guarded.ask("GET", STATUS, public=True, host=twice).status == 400


CROSS_SITE = {
    "another origin": {"origin": "http://evil.example"},
    "another port": {"origin": "http://localhost:8080"},
    "no origin that can be named": {"origin": "null"},
    "an origin that is none": {"origin": "http://[::1"},
    "another site": {"sec_fetch_site": "cross-site"},
    "a sibling site": {"sec_fetch_site": "same-site"},
}


@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
@pytest.mark.parametrize("public", [True, False])
def test_a_cross_site_change_is_refused(
    guarded: Desk, headers: dict[str, str], public: bool
) -> None:
    token = f"Bearer {TOKEN}"
    answered = guarded.ask("POST", EJECT, public=public, authorization=token, **headers)
    assert answered.status == 403
    assert state(guarded) == "absent"


def test_a_change_from_a_page_of_this_server_is_taken(guarded: Desk) -> None:
    headers = {"origin": "http://localhost", "sec_fetch_site": "same-origin"}
    token = f"Bearer {TOKEN}"
    answered = guarded.ask("POST", EJECT, public=True, authorization=token, **headers)
    assert answered.status == 200


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
def test_a_change_that_a_form_could_send_is_refused(guarded: Desk, kind: str | None) -> None:
    answered = guarded.ask("POST", EJECT, content_type=kind)
    assert answered.status == 415
    assert state(guarded) == "absent"


def test_a_page_of_another_site_cannot_read(guarded: Desk) -> None:
    assert guarded.ask("GET", STATUS, sec_fetch_site="cross-site").status == 403


def test_an_answer_cannot_be_framed_sniffed_or_kept(desk: Desk) -> None:
    headers = desk.ask("GET", STATUS).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "deny"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
