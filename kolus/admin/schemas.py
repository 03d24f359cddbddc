"""The JSON schemas of the answers of the API."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from kolus.status import Counters, State

__all__ = ["ANSWERS", "array", "ref"]

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """A schema of the description by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """The schema of a list."""
    return {"type": "array", "items": items}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_MAYBE_SECONDS: Schema = {"type": ["number", "null"]}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_COUNTS: Schema = {"type": "object", "additionalProperties": _WHOLE}
_STATE: Schema = {"type": "string", "enum": [each.value for each in State]}

_NUMBERS = {
    "state": _STATE,
    "limit": _WHOLE,
    "idle": _WHOLE,
    "leased": _WHOLE,
    "connecting": _WHOLE,
    "unused": _WHOLE,
    "waiting": _WHOLE,
    "detached": _WHOLE,
}

ANSWERS: dict[str, Schema] = {
    "Counters": _object(**{each.name: _WHOLE for each in fields(Counters)}),
    "Histogram": _object(count=_WHOLE, sum=_SECONDS, bounds=array(_SECONDS), counts=array(_WHOLE)),
    "Backend": _object(
        name=_TEXT,
        endpoint=_MAYBE_TEXT,
        zone=_TEXT,
        weight=_NUMBER,
        **_NUMBERS,
        ramp=_NUMBER,
        counters=ref("Counters"),
        closes=_COUNTS,
        ejections=_WHOLE,
        wait=ref("Histogram"),
        connect=ref("Histogram"),
        hold=ref("Histogram"),
    ),
    "Manager": _object(backend=_TEXT, ident=_TEXT, **_NUMBERS),
    "Group": _object(
        name=_TEXT,
        started=_FLAG,
        waiting=_WHOLE,
        oldest_wait=_MAYBE_SECONDS,
        ejected=_WHOLE,
        panics=_FLAG,
        panicked=_WHOLE,
        limit={"type": ["integer", "null"]},
        counters=ref("Counters"),
        backends=array(ref("Backend")),
        managers=array(ref("Manager")),
    ),
    "Listener": _object(
        name=_TEXT,
        addresses=array(_TEXT),
        group=_TEXT,
        clients=_WHOLE,
        served=_WHOLE,
        refused=_WHOLE,
        refusals=_COUNTS,
        timed_out=_COUNTS,
        sent=_WHOLE,
        received=_WHOLE,
        session=ref("Histogram"),
    ),
    "Client": _object(
        number=_WHOLE,
        address=_TEXT,
        state={"type": "string", "enum": ["waiting", "served", "ending"]},
        age=_SECONDS,
        waited=_MAYBE_SECONDS,
        backend=_MAYBE_TEXT,
    ),
    "Status": _object(
        run=_TEXT,
        started_at=_NUMBER,
        time=_NUMBER,
        groups=array(ref("Group")),
        listeners=array(ref("Listener")),
        certificates=array(ref("Certificate")),
    ),
    "Certificate": _object(user=_TEXT, file=_TEXT, expires_at=_NUMBER, is_due=_FLAG),
    "Waiter": _object(position=_WHOLE, why=_TEXT, waited=_SECONDS, deadline_in=_MAYBE_SECONDS),
    "Lease": _object(doing=_TEXT, held=_SECONDS, uses=_WHOLE),
    "ManagerExplanation": _object(
        group=_TEXT,
        backend=_TEXT,
        ident=_TEXT,
        **_NUMBERS,
        why=_TEXT,
        last_error=_MAYBE_TEXT,
        retry_in=_MAYBE_SECONDS,
        waiters=array(ref("Waiter")),
        leases=array(ref("Lease")),
    ),
    "Explanation": _object(text=_TEXT, managers=array(ref("ManagerExplanation"))),
    "Outcome": _object(done=_TEXT),
    "BackendOutcome": _object(done=_TEXT, backend=ref("Backend")),
    "GroupOutcome": _object(done=_TEXT, group=ref("Group")),
    "Problem": {
        "type": "object",
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
        },
        "required": ["type", "title", "status", "detail"],
    },
}
"""Each schema by its name. No answer has other fields than these."""
