"""Which errors of a connect are this machine's, and which the peer's."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import Any

import pytest
from OpenSSL.SSL import Error
from twisted.internet import defer
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TimeoutError,
)
from twisted.python.failure import Failure

from kolus.endpoints import machine_fault
from kolus.errors import MachineFault
from kolus.testing.results import failure_of
from tests.rigs.named_rig import ONE, TWO, Rig, fresh

rig = pytest.fixture(fresh)


def lacking(number: int) -> ConnectBindError:
    return ConnectBindError(number, "no")


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EMFILE, "this process has no file descriptor left: raise its limit of"),
        (errno.ENFILE, "this machine has no file descriptor left"),
        (errno.ENOBUFS, "this machine has no buffer left"),
        (errno.ENOMEM, "this machine has no memory left"),
        (errno.EADDRNOTAVAIL, "this machine has no address or port left"),
        (errno.EADDRINUSE, "this machine has no address or port left"),
        (errno.EAGAIN, "this machine can start no more processes"),
    ],
)
@pytest.mark.parametrize("kind", [lacking, lambda number: OSError(number, "no")])
def test_a_fault_says_what_is_lacking_and_what_to_do(kind: Any, number: int, says: str) -> None:
    error = kind(number)
    fault = machine_fault(error)
    assert fault is not None
    assert str(fault).startswith(says)
    assert fault.reason is error
    of_some = (errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EAGAIN)
    assert fault.is_general is (number not in of_some)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAFNOSUPPORT, errno.EINVAL])
def test_that_no_socket_can_be_made_or_bound_is_this_machines_fault(number: int) -> None:
    fault = machine_fault(lacking(number))
    assert fault is not None
    assert not fault.is_general
    assert "correct the address to bind to" in str(fault)


def test_an_error_of_memory_is_this_machines_like_the_one_with_a_number() -> None:
    fault = machine_fault(MemoryError())
    assert fault is not None
    assert fault.is_general
    assert str(fault).startswith("this machine has no memory left")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        NoRouteError(errno.ENETUNREACH, "no"),
        ConnectError(errno.EHOSTUNREACH, "no"),
        ConnectError(errno.EACCES, "no"),
        TimeoutError(errno.ETIMEDOUT, "no"),
        defer.TimeoutError(),
        DNSLookupError("no address"),
        ConnectError(string="no"),
        RuntimeError("no"),
        ValueError(errno.EMFILE),
    ],
)
def test_other_errors_are_the_peers(error: Exception) -> None:
    assert machine_fault(error) is None


def test_a_cause_is_looked_at_and_a_circle_of_causes_ends() -> None:
    error, cause = ValueError(), OSError(errno.EMFILE, "no")
    error.__cause__ = cause
    cause.__cause__ = error
    assert machine_fault(error) is not None
    cause.errno = errno.EPERM
    assert machine_fault(error) is None


def test_the_first_error_of_several_is_looked_at() -> None:
    first = defer.FirstError(Failure(OSError(errno.EMFILE, "no")), 0)
    assert machine_fault(first) is not None


def test_the_errors_of_a_group_are_looked_at() -> None:
    fault = machine_fault(ExceptionGroup("two tasks", [ValueError(), OSError(errno.EMFILE, "")]))
    assert fault is not None
    assert "file descriptor" in str(fault)


def unread_file() -> Exception:
    """As a callable fails that reads a certificate for the endpoint that it makes."""
    error = RuntimeError("the callable raised")
    error.__cause__ = Error([("system library", "", ""), ("BIO routines", "", "system lib")])
    return error


@pytest.mark.parametrize(
    "error", [DNSLookupError("no"), defer.TimeoutError(), TimeoutError(), unread_file()]
)
def test_an_error_that_says_little_is_a_fault_if_no_descriptor_is_left(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "no")

    assert machine_fault(error) is None
    monkeypatch.setattr("kolus.endpoints.machine.socket.socket", none_left)
    assert machine_fault(error) is not None
    assert machine_fault(ConnectionRefusedError()) is None


# A name with several addresses


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_what_all_addresses_of_a_name_lack_is_a_fault(rig: Rig, number: int) -> None:

    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    for _ in range(2):
        rig.refuse(kind=lambda: lacking(number))  # type: ignore[arg-type]
    assert machine_fault(failure_of(ConnectBindError, made)) is not None


def test_what_only_some_addresses_lack_is_none(rig: Rig) -> None:

    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.refuse(kind=lambda: lacking(errno.EADDRNOTAVAIL))  # type: ignore[arg-type]
    rig.refuse()
    assert machine_fault(failure_of(ConnectError, made)) is None


def test_a_name_that_cannot_be_asked_for_fails_with_the_fault(rig: Rig) -> None:

    def resolve(*_: object) -> None:
        raise MachineFault("no thread", RuntimeError())

    rig.resolver.resolveHostName = resolve  # type: ignore[method-assign,assignment]
    failure_of(MachineFault, rig.connect())


@pytest.mark.long
def test_a_program_without_descriptors_can_encode_host_names() -> None:
    said = "import sys, kolus; kolus.Pool; print('encodings.idna' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
