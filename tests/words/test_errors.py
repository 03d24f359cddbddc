"""The messages of errors: the backend, the numbers, the cause, and what to do."""

from __future__ import annotations

import pytest
from twisted.internet.defer import TimeoutError as DeferredTimeout

import kolus
from kolus import Backend, ConnectFailed, KolusError, LeaseTimeout, Rejected
from kolus.errors import describe


@pytest.mark.parametrize("name", ["PoolFull", "WrongIdent", "Draining", "NoBackend"])
def test_what_the_pool_says_no_to_at_once_is_rejected(name: str) -> None:
    assert issubclass(getattr(kolus, name), Rejected)


@pytest.mark.parametrize(
    "name", ["Rejected", "LeaseTimeout", "ConnectFailed", "Closed", "LeaseError"]
)
def test_every_error_is_of_one_family(name: str) -> None:
    assert issubclass(getattr(kolus, name), KolusError)


def test_a_failed_connect_names_the_backend_the_reason_and_the_next_attempt() -> None:
    error = ConnectFailed(Backend("tcp:a:1", name="cache"), OSError("no route"), 2.5)
    assert str(error) == (
        "cannot connect to cache: OSError: no route; the next attempt is due in 2.5 s"
    )
    assert error.__cause__ is error.reason


def test_an_error_without_a_message_is_named_by_its_class() -> None:
    assert describe(ValueError()) == "ValueError"
    assert describe(ValueError("bad")) == "ValueError: bad"


def test_a_lease_time_out_is_twisteds_time_out() -> None:
    assert issubclass(LeaseTimeout, DeferredTimeout)
