"""The errors that kolus raises and that its Deferreds fail with.

::

    KolusError
      Rejected            the request was refused at once
        PoolFull          the limit is reached and max_waiters requests wait
        WrongIdent        the backend belongs to another ident; only with idents="reject"
        Draining          the backend gives no new leases
        NoBackend         there was nothing to choose from, or the balancer chose nothing
      LeaseTimeout        the deadline was reached; also a TimeoutError, and that of Twisted
      ConnectFailed       the connection could not be made or prepared
      Closed              the pool or the manager is closed
      LeaseError          the caller's own mistake with a lease; raised at once
      MachineFault        the reason of a failed connect that is no backend's fault

Their texts, and whatever else is told of a mistake, show no secrets: C{describe}, C{shown} and
C{hide_secrets} see to that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

if TYPE_CHECKING:
    from kolus.backend import AnyBackend, Backend
    from kolus.status import Status

__all__ = [
    "Closed",
    "ConnectFailed",
    "Draining",
    "KolusError",
    "LeaseError",
    "LeaseTimeout",
    "MachineFault",
    "NoBackend",
    "PoolFull",
    "Rejected",
    "WrongIdent",
    "describe",
    "hide_secrets",
    "pool_is_full",
    "reason_of",
    "shown",
]


_MOST_NAMED = 10

# What follows the name of a password or a token. privateKey of an endpoint string names a file.
_PARTS = (
    "passw|passphrase|pwd|secret|token|credential|authorization|"
    "api[-_]?key|access[-_]?key|private[-_]key"
)
_NAME = rf"[\w-]{{0,40}}(?:{_PARTS})[\w-]{{0,40}}"
_VALUE = r"b?'(?:\\.|[^'\\])*'|b?\"(?:\\.|[^\"\\])*\"|(?:\\.|[^\s:,;&)>}])+"
_NAMED = re.compile(
    rf"(?i)((?:\b{_NAME}\b['\"]?\s*[=:]|\b(?:pass|pw|auth)=)\s*)"
    rf"(?:(?:basic|bearer)\s+)?(?:{_VALUE})"
)
_IN_URL = re.compile(r"(://[^/@\s:]*:)[^/@\s]+(?=@)")


class KolusError(Exception):
    """The base class of all errors of kolus.

    It can be copied, and pickled to another process, if the errors that it names can be. The status
    of a pickled error has no manager.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__cause__), self.__dict__


class Rejected(KolusError):
    """The request was refused at once, without any attempt."""


class PoolFull(Rejected):
    """All connections are leased, and as many requests wait as C{max_waiters} allows."""


class WrongIdent(Rejected):
    """The backend belongs to another ident while it has a manager, and the policy has
    C{idents="reject"}; or a manager was asked for another ident than its own."""


class Draining(Rejected):
    """The backend is draining: it gives no new leases."""


class NoBackend(Rejected):
    """There was no backend to choose from, or the balancer chose none."""


class Closed(KolusError):
    """The pool or the manager is closed."""


class LeaseError(KolusError):
    """A lease was misused: settled twice, used after its end, or given to another pool."""


class MachineFault(KolusError):
    """This machine lacked what a connect needs, such as a file descriptor. It is held against no
    backend. Requests do not fail with it; it is the reason of their errors.

    @ivar reason: the exception that shows it.
    @ivar is_general: whether it prevents connects to all backends.
    """

    def __init__(self, message: str, reason: BaseException, is_general: bool = True) -> None:
        self.reason = reason
        self.is_general = is_general
        super().__init__(f"{message} ({describe(reason)})")
        self.__cause__ = reason


class ConnectFailed(KolusError):
    """A connection could not be made or prepared.

    @ivar backend: the backend.
    @ivar reason: the exception of the last attempt, without its traceback. The traceback would
        refer to the variables of C{connect}'s caller, so only the log has it.
    @ivar retry_in: seconds until the next attempt is due; 0.0 if it may begin at once.
    @ivar tried: for a request to several backends: the error of the request, or of the last
        attempt, at each of them. The key is the C{Backend}, or the string if that was invalid.
    @ivar but: what failed when it was connected, such as the policy's C{prepare}, in words;
        C{None} if it was not connected.
    @ivar is_mistake: whether your own code raised while the protocol was made and connected. That
        is not held against the backend: it costs no back-off and ejects nothing.
    """

    def __init__(
        self,
        backend: Backend,
        reason: BaseException,
        retry_in: float = 0.0,
        tried: Mapping[AnyBackend, BaseException] | None = None,
        *,
        but: str | None = None,
        is_mistake: bool = False,
    ) -> None:
        self.backend = backend
        self.reason = reason
        self.retry_in = retry_in
        self.tried = dict(tried or {})
        self.but = but
        self.is_mistake = is_mistake
        done = (
            f"cannot connect to {backend}" if but is None else f"connected to {backend}, but {but}"
        )
        later = f"; the next attempt is due in {retry_in:.3g} s" if retry_in > 0 else ""
        others = {each: why for each, why in self.tried.items() if each != backend}
        super().__init__(f"{done}: {describe(reason)}{later}{_also_tried(others)}")
        self.__cause__ = reason

    def having_tried(self, tried: Mapping[AnyBackend, BaseException]) -> ConnectFailed:
        """The same error, for a request that was tried at other backends, too."""
        return ConnectFailed(
            self.backend,
            self.reason,
            self.retry_in,
            tried,
            but=self.but,
            is_mistake=self.is_mistake,
        )


class LeaseTimeout(KolusError, DeferredTimeoutError, TimeoutError):
    """No connection became free before the deadline.

    @ivar status: the manager's numbers at the deadline.
    @ivar waited: seconds from the request until it failed, at its deadline or just after.
    @ivar last_error: the error of the last attempt to connect; C{None} if it succeeded.
    @ivar tried: for a request to several backends: those that could not serve it, and the errors.
    @ivar but: what failed in that attempt when it was connected, in words; C{None} if it was not.
    @ivar hook: C{"check"} or C{"reset"}, if one of them failed while the request waited.
    @ivar hook_error: the error of the last that did.
    @ivar pool_limit: the limit of the pool, if that was reached at the deadline and the backend's
        own was not; else C{None}.
    @ivar of_others: if the backend's limit was reached, how many of its connections were of other
        idents, or had left the pool and kept their slots; else 0.
    """

    def __init__(
        self,
        status: Status,
        waited: float,
        last_error: BaseException | None,
        tried: Mapping[AnyBackend, BaseException] | None = None,
        *,
        but: str | None = None,
        hook: str | None = None,
        hook_error: BaseException | None = None,
        pool_limit: int | None = None,
        of_others: int = 0,
    ) -> None:
        self.status = status
        self.of_others = of_others
        self.pool_limit = pool_limit
        self.waited = waited
        self.last_error = last_error
        self.tried = dict(tried or {})
        self.but = but
        self.hook = hook
        self.hook_error = hook_error
        why = ""
        if last_error is not None:
            what = "the last connect failed" if but is None else f"it connected, but {but}"
            why = f"; {what}: {describe(last_error)}"
        if hook_error is not None:
            why += f"; the last {hook} failed: {describe(hook_error)}"
        others = {each: why for each, why in self.tried.items() if each != status.backend}
        full = f"; {of_others} of its connections are not for this ident" if of_others else ""
        super().__init__(
            f"no connection to {status} within {waited:.3g} s{pool_is_full(pool_limit)}{full}"
            f"{why}{_also_tried(others)}"
        )
        self.__cause__ = last_error or hook_error

    def after(
        self, seconds: float, tried: Mapping[AnyBackend, BaseException] | None = None
    ) -> LeaseTimeout:
        """The same error, for a request that had already waited elsewhere.

        @param seconds: the earlier wait.
        @param tried: the backends of the earlier wait, and the errors.
        """
        everything = {**(tried or {}), **self.tried}
        return LeaseTimeout(
            self.status,
            seconds + self.waited,
            self.last_error,
            everything,
            but=self.but,
            hook=self.hook,
            hook_error=self.hook_error,
            pool_limit=self.pool_limit,
            of_others=self.of_others,
        )


def _again(
    kind: type[KolusError], args: tuple[object, ...], cause: BaseException | None
) -> KolusError:
    """A copied error. Its C{__init__}, which would make the message anew, is not called."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__cause__ = cause
    return error


def describe(error: BaseException) -> str:
    """An exception as text: its class, and its message if it has one, without the secrets in it:
    what fails to connect may tell with which password it tried."""
    text = hide_secrets(safe_str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def hide_secrets(text: str) -> str:
    """The text with C{***} for each value whose name says that it is a secret, such as
    C{socksPassword=...} in an endpoint string, and for a password in a URL."""
    if "=" not in text and ":" not in text:
        return text
    return _IN_URL.sub(r"\1***", _NAMED.sub(r"\1***", text))


def shown(value: object) -> str:
    """A value in a message about a mistake: its C{repr}, without the secrets that are in it."""
    return hide_secrets(repr(value))


def pool_is_full(limit: int | None) -> str:
    """A part of a message: the limit of the pool is reached; nothing if it is C{None}."""
    return "" if limit is None else f"; the pool's limit of {limit} connections is reached"


def _also_tried(others: Mapping[AnyBackend, BaseException]) -> str:
    """The end of a message: the errors at other backends."""
    if not others:
        return ""
    told = [f"{each}: {describe(why)}" for each, why in islice(others.items(), _MOST_NAMED)]
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    return f"; nor to {', '.join(told)}{more}"


def reason_of(failure: Failure) -> BaseException:
    """The exception in a failure."""
    assert failure.value is not None
    return failure.value
