"""The calls that change something: what they do, what they answer, and what they log."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from twisted.logger import capturedLogs

from tests.rigs.desk import Client, Desk

A = "/api/v1/groups/main/backends/a"
MAIN = "/api/v1/groups/main"


def change(desk: Desk, path: str, value: object = None) -> Any:
    answered = desk.ask("POST", path, value)
    assert answered.status == 200, answered.value
    return answered.value


def test_an_ejected_backend_is_not_chosen_until_it_is_admitted(desk: Desk) -> None:
    assert change(desk, f"{A}/eject")["backend"]["state"] == "ejected"
    assert desk.lease().backend.name == "b"
    assert change(desk, f"{A}/admit")["backend"]["state"] in ("absent", "open")
    assert desk.lease("them").backend.name == "a"


def test_a_drained_backend_serves_its_leases_to_the_end_and_gets_no_more(desk: Desk) -> None:
    lease = desk.lease()
    told = change(desk, f"{A}/drain")
    assert told["done"] == "ejected; it is drained when 1 leases are settled"
    assert desk.lease().backend.name == "b"
    assert lease.held
    lease.release()
    desk.clock.pump([0, 0])
    assert desk.fakes[0].connections == []
    assert desk.lease("them").backend.name == "b"
    change(desk, f"{A}/admit")
    assert desk.lease("others").backend.name == "a"


def test_a_paused_backend_lets_requests_wait_until_it_is_resumed(desk: Desk) -> None:
    change(desk, f"{A}/pause")
    asked = desk.pool.connect("us", desk.backends[0])
    assert not asked.called
    change(desk, f"{A}/resume")
    assert asked.called


def test_a_paused_group_lets_all_requests_wait_until_it_is_resumed(desk: Desk) -> None:
    desk.lease().release()
    states = [each["state"] for each in change(desk, f"{MAIN}/pause")["group"]["backends"]]
    assert states[0] == "paused"
    asked = desk.group.connect("us")
    assert not asked.called
    change(desk, f"{MAIN}/resume")
    assert asked.called


def test_a_resized_backend_has_the_new_limit(desk: Desk) -> None:
    told = change(desk, f"{A}/resize", {"limit": 7})
    assert (told["done"], told["backend"]["limit"]) == ("the limit is 7", 7)
    group = change(desk, f"{MAIN}/resize", {"limit": 3})["group"]
    assert [each["limit"] for each in group["backends"]] == [7, 3]


def test_an_invalidated_backend_closes_its_idle_connections(desk: Desk) -> None:
    desk.lease().release()
    change(desk, f"{A}/invalidate")
    desk.clock.pump([0, 0])
    assert desk.fakes[0].connections == []


def test_a_weight_is_set(desk: Desk) -> None:
    assert change(desk, f"{A}/weight", {"weight": 0.5})["done"] == "the weight is 0.5"
    assert desk.main.weights == {desk.backends[0]: 0.5}


def test_one_client_is_closed(desk: Desk) -> None:
    desk.front.clients.add(Client("192.0.2.7:1"))
    path = "/api/v1/listeners/clients/clients/1/close"
    assert change(desk, path) == {"done": "client 1 is closed"}
    assert desk.front.closed == [1]
    for wrong in ("2", "one", "-1", "1" * 30, "%C2%B2"):
        assert desk.ask("POST", path.replace("/1/", f"/{wrong}/")).status == 404


def test_a_change_is_logged_with_who_and_what(desk: Desk) -> None:
    with capturedLogs() as logged:
        change(desk, f"{A}/resize", {"limit": 7})
    (event,) = [each for each in logged if each.get("name") == "resize"]
    assert event["who"] == "admin from 127.0.0.1:50000"
    assert (str(event["backend"]), event["done"]) == ("a", "the limit is 7")


def test_a_whole_number_may_be_written_with_a_point(desk: Desk) -> None:
    changed = change(desk, f"{A}/resize", {"limit": 7.0})
    assert (changed["done"], changed["backend"]["limit"]) == ("the limit is 7", 7)


WRONG: dict[str, tuple[str, Any, int, str]] = {
    "no body": ("resize", b"", 422, "limit is missing"),
    "no JSON": ("resize", b"{", 400, "the body is not JSON"),
    "no text": ("resize", b"\xff\xfe", 400, "the body is not JSON"),
    "deeply nested": ("resize", b"[" * 10_000, 400, "the body is not JSON"),
    "an array": ("resize", [1], 422, "the body must be a JSON object, not an array"),
    "an unknown field": ("resize", {"limits": 1}, 422, "unknown field 'limits'"),
    "a field of another call": ("eject", {"limit": 1}, 422, "this call takes no fields"),
    "a text": ("resize", {"limit": "7"}, 422, 'a whole number of at least 1, not "7"'),
    "zero": ("resize", {"limit": 0}, 422, "at least 1, not 0"),
    "a boolean": ("resize", {"limit": True}, 422, "not true"),
    "a fraction": ("resize", {"limit": 1.5}, 422, "not 1.5"),
    "too many": ("resize", {"limit": 10**30}, 422, "at most 1000000000"),
    "no number": ("weight", {"weight": None}, 422, "weight must be a number, not null"),
    "not finite": ("weight", b'{"weight": NaN}', 422, "weight"),
    "too large": ("weight", {"weight": 10**400}, 422, "weight is too large"),
    "out of range": ("weight", {"weight": -1}, 422, "weight must be a number from"),
}


@pytest.mark.parametrize(("call", "value", "status", "detail"), WRONG.values(), ids=WRONG)
def test_wrong_input_gets_a_clear_refusal(
    desk: Desk, call: str, value: Any, status: int, detail: str
) -> None:
    body = value if isinstance(value, bytes) else None
    answered = desk.ask("POST", f"{A}/{call}", value if body is None else None, body=body)
    assert answered.status == status
    assert answered.headers["content-type"] == "application/problem+json"
    assert detail in answered.value["detail"]
    assert desk.pool.status(["tcp:192.0.2.1:1"])[0].limit == 2


def test_every_described_change_answers_as_described(desk: Desk) -> None:
    description = desk.ask("GET", "/api/v1/openapi.json").value
    desk.lease()
    desk.front.clients.add(Client("192.0.2.7:1"))
    names = {"group": "main", "backend": "a", "listener": "clients", "number": "1"}
    fields = {"limit": 5, "weight": 2}
    tried = 0
    for path, operations in description["paths"].items():
        if "post" not in operations:
            continue
        tried += 1
        operation = operations["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        value = {name: fields[name] for name in body["properties"]}
        Draft202012Validator(body).validate(value)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": description["components"]}
        Draft202012Validator(whole).validate(change(desk, path.format(**names), value))
        assert operation["requestBody"]["required"]  # without Content-Type the call is refused
        assert desk.ask("POST", path.format(**names), content_type=None).status == 415
        for wrong in ([], {"no": 1}, *([{}] if value else [])):
            answered = desk.ask("POST", path.format(**names), wrong)
            assert str(answered.status) in operation["responses"]
            problem = {"$ref": "#/components/schemas/Problem"}
            checked = {**problem, "components": description["components"]}
            Draft202012Validator(checked).validate(answered.value)
    assert tried == 13
