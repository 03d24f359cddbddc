"""The calls that read: what they answer agrees with the pool, and with the description."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kolus.tls import Certificate
from tests.rigs.desk import Client, Desk

STATUS = "/api/v1/status"


def described(desk: Desk) -> Any:
    return desk.ask("GET", "/api/v1/openapi.json").value


def check(desk: Desk, schema: Any, value: Any) -> None:
    whole = {**schema, "components": described(desk)["components"]}
    Draft202012Validator(whole).validate(value)


def test_the_status_has_the_numbers_of_every_backend_and_manager(desk: Desk) -> None:
    lease = desk.lease()
    waiting = [desk.group.connect("us") for _ in range(4)]
    desk.clock.advance(1.5)
    (group,) = desk.ask("GET", STATUS).value["groups"]
    a, b = group["backends"]
    assert (a["name"], a["state"], a["leased"], a["limit"]) == ("a", "open", 2, 2)
    assert (b["name"], b["leased"]) == ("b", 2)
    assert (group["waiting"], group["oldest_wait"]) == (1, 1.5)
    assert [each["ident"] for each in group["managers"]] == ["us", "us"]
    assert a["counters"]["leases"] == 2
    for each in waiting[-1:]:
        each.addErrback(lambda failure: None).cancel()
    lease.release()


def test_the_clients_of_a_listener_are_listed_with_state_and_age(desk: Desk) -> None:
    one, two = Client("192.0.2.7:4711"), Client("192.0.2.8:4711")
    desk.front.clients.add(one)
    desk.clock.advance(2)
    desk.front.clients.add(two)
    desk.front.clients.served(one, desk.lease())
    desk.clock.advance(1)
    told = desk.ask("GET", "/api/v1/listeners/clients/clients").value
    assert [(each["address"], each["state"], each["age"]) for each in told] == [
        ("192.0.2.7:4711", "served", 3.0),
        ("192.0.2.8:4711", "waiting", 1.0),
    ]
    assert [(each["waited"], each["backend"]) for each in told] == [(2.0, "a"), (1.0, None)]


def test_the_explanation_says_why_each_request_waits_and_for_how_long(desk: Desk) -> None:
    for _ in range(4):
        desk.lease()
    waiting = desk.pool.connect("us", desk.backends[0])
    desk.clock.advance(1)
    told = desk.ask("GET", "/api/v1/explain").value
    manager = next(each for each in told["managers"] if each["waiters"])
    assert manager["waiters"][0]["waited"] == 1.0
    assert "are leased" in manager["why"]
    assert "are leased" in told["text"]
    waiting.addErrback(lambda failure: None).cancel()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_described_call_that_reads_answers_as_described(desk: Desk, method: str) -> None:
    desk.lease()
    desk.front.clients.add(Client("192.0.2.7:1"))
    names = {"group": "main", "backend": "a", "listener": "clients", "number": "1"}
    tried = 0
    for path, operations in described(desk)["paths"].items():
        content = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "application/json" not in content:
            continue
        tried += 1
        answered = desk.ask(method, path.format(**names))
        assert answered.status == 200
        assert answered.headers["content-type"] == "application/json"
        if method == "GET":
            check(desk, content["application/json"]["schema"], answered.value)
        else:
            assert answered.body == b""
            assert int(answered.headers["content-length"]) > 0
    assert tried == 7


def test_a_name_that_is_not_there_gets_the_nearest_one(desk: Desk) -> None:
    answered = desk.ask("GET", "/api/v1/groups/mainn")
    assert answered.status == 404
    assert answered.headers["content-type"] == "application/problem+json"
    assert answered.value["detail"] == "no group 'mainn'; did you mean main?"
    assert "there are: a, b" in desk.ask("GET", "/api/v1/groups/main/backends/x").value["detail"]


def test_a_backend_is_found_by_its_endpoint_string_too(desk: Desk) -> None:
    desk.group.close()
    desk.main.group = desk.pool.group(["tcp:192.0.2.1:7"], name="main")
    path = "/api/v1/groups/main/backends/tcp:192.0.2.1:7"
    assert desk.ask("GET", path).value["endpoint"] == "tcp:192.0.2.1:7"
    assert desk.ask("GET", path.replace(":", "%3A")).status == 200


def test_backends_of_one_name_are_told_apart(desk: Desk) -> None:
    from kolus import Backend

    desk.group.close()
    same = [Backend(f"tcp:192.0.2.{each}:7", name="cache") for each in (1, 2)]
    desk.main.group = desk.pool.group(same, name="main")
    names = [each["name"] for each in desk.ask("GET", "/api/v1/groups/main").value["backends"]]
    assert names == ["cache", "cache (2)"]
    second = desk.ask("GET", "/api/v1/groups/main/backends/cache%20(2)").value
    assert second["endpoint"] == "tcp:192.0.2.2:7"


def test_a_secret_in_an_endpoint_string_is_not_shown(desk: Desk) -> None:
    desk.group.close()
    desk.main.group = desk.pool.group(["tls:192.0.2.1:7:password=hunter2"], name="main")
    assert b"hunter2" not in desk.ask("GET", STATUS).body


def test_a_group_that_has_not_started_is_shown_without_backends(desk: Desk) -> None:
    desk.main.group = None
    (group,) = desk.ask("GET", STATUS).value["groups"]
    assert (group["started"], group["backends"]) == (False, [])
    assert desk.ask("POST", "/api/v1/groups/main/pause").status == 409


def test_clients_that_are_refused_and_sessions_that_time_out_are_counted_by_reason(
    desk: Desk,
) -> None:
    desk.front.refusals.counts["deny"] += 3
    desk.front.refusals.counts["handshake"] += 1
    desk.front.times_out["client_timeout"] += 2
    (listener,) = desk.ask("GET", STATUS).value["listeners"]
    assert listener["refusals"] == {"deny": 3, "handshake": 1}
    assert listener["timed_out"] == {"client_timeout": 2}
    lines = desk.ask("GET", "/metrics").body.decode().splitlines()
    for line in (
        'kolus_refused_clients_total{listener="clients",reason="deny"} 3.0',
        'kolus_refused_clients_total{listener="clients",reason="handshake"} 1.0',
        'kolus_timed_out_sessions_total{listener="clients",reason="client_timeout"} 2.0',
    ):
        assert line in lines


def test_certificates_are_told_with_the_time_when_they_expire(desk: Desk) -> None:
    its = {"user": "listener clients", "file": "a.pem", "expires_at": 1.5e9, "is_due": True}
    desk.running.certificates.append(Certificate(**its))
    assert desk.ask("GET", STATUS).value["certificates"] == [its]
    labels = '{file="a.pem",user="listener clients"}'
    told = desk.ask("GET", "/metrics").body.decode()
    assert f"kolus_certificate_expiry_timestamp_seconds{labels} 1.5e+09\n" in told
