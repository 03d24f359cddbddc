"""C{HealthCheck}: what a health check does, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from kolus.support import check_duration, check_whole, check_word

__all__ = ["CheckKind", "HealthCheck"]

CheckKind = Literal["tcp", "tls", "exchange"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """A check of each backend of a group, by a connection of its own. The defaults are HAProxy's.

    @ivar kind: what the backend has to do: C{"tcp"}: accept a connection, and complete the
        handshake if the group has TLS; C{"tls"}: complete a handshake even if the group has no TLS
        (then no certificate is verified); C{"exchange"}: answer as expected, too.
    @ivar send: for C{"exchange"}: what is sent first. Empty: the backend speaks first.
    @ivar expect: for C{"exchange"}: what has to be in the answer.
    @ivar interval: seconds from the end of a check to the begin of the next, a tenth more or less:
        checks of many backends do not come all at once.
    @ivar timeout: seconds that a check may take.
    @ivar fall: number of failures in a row that ejects the backend.
    @ivar rise: number of successes in a row that admits it again.
    """

    kind: CheckKind = "tcp"
    send: bytes = field(default=b"", repr=False)  # it may have a password
    expect: bytes = b""
    interval: float = 2.0
    timeout: float = 2.0
    fall: int = 3
    rise: int = 2

    def __post_init__(self) -> None:
        """
        @raise ValueError: a setting has a wrong value, or two contradict each other; the message
            begins with the setting's name.
        """
        check_word("kind", self.kind, get_args(CheckKind))
        for name in ("send", "expect"):
            value = getattr(self, name)
            if not isinstance(value, bytes):
                raise ValueError(f"{name} must be bytes, not a {type(value).__name__}")
            if value and self.kind != "exchange":
                raise ValueError(f'{name} is for kind "exchange", not {self.kind!r}')
        if self.kind == "exchange" and not self.expect:
            raise ValueError('expect must not be empty for kind "exchange": say what to look for')
        for name in ("interval", "timeout"):
            check_duration(name, getattr(self, name))
        check_whole("fall", self.fall, 1)
        check_whole("rise", self.rise, 1)
