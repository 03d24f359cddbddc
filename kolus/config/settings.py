"""C{Config}: what the daemon listens on, which groups of backends it has, and how it is steered.

All are frozen values, and checked when they are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from kolus.backend import Backend
from kolus.balance import NAMES
from kolus.checking import HealthCheck
from kolus.health import Ejection
from kolus.policy import Policy
from kolus.proxy_protocol import ProxyVersion
from kolus.sources import name_server_from_string
from kolus.support import (
    check_duration,
    check_flag,
    check_seconds,
    check_whole,
    check_word,
    did_you_mean,
)
from kolus.tls import BackendTLS
from kolus.tunnel import ListenerSettings

__all__ = ["AdminSettings", "Config", "GroupSettings", "ListenerConfig"]

_POLICY = Policy()
_HOST = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """A group of backends that serve the same clients. Times are in seconds.

    @ivar backends: the backends: client endpoint strings, such as C{tcp:10.0.0.7:6379}, or tables
        with C{endpoint} or C{host} and C{port}, and C{name}, C{limit}, C{weight} and C{zone}.
    @ivar source: lists the backends instead, and follows their changes: C{dns:NAME:PORT},
        C{srv:_SERVICE._tcp.NAME}, or C{file:PATH} of a C{.toml} or C{.json} file.
    @ivar wait_for_source: whether the daemon may start although the file of C{source} is missing or
        wrong. Clients then wait until it has a list.
    @ivar balance: the balancer that chooses the backend.
    @ivar limit: the most connections to each backend.
    @ivar total_limit: the most connections to all backends together. None: no such limit.
    @ivar connect_ahead: idle connections to keep ready at each backend, as far as the limits allow.
        Not for protocols in which the backend speaks first.
    @ivar max_waiters: how many clients may wait for each backend. None: any number.
    @ivar connect_timeout: how long connecting may take.
    @ivar fail_fast: whether a client is closed at once if no backend can be reached and the next
        attempt to connect is not due. False: it waits until C{queue_timeout}, which is right for a
        single backend that restarts.
    @ivar tcp_keepalive: time after which the kernel probes a silent connection, and again after
        each third of it. Connections that are kept ready are mostly silent: one whose backend has
        forgotten it is found in these ten seconds, before a client gets it. C{None}: it is not
        probed.
    @ivar tcp_user_timeout: time after which a backend that takes nothing of what was sent, or
        answers no probe, has lost the connection. That includes one that lives and does not read.
        C{None}: what the kernel does by itself, a quarter of an hour.
    @ivar eject_after: number of failures in a row that ejects a backend: it is not chosen for a
        while. 0: never.
    @ivar send_proxy: the version of the PROXY header that tells each backend who the client is.
        None: no header is sent.
    @ivar tls: TLS to the backends. None: the bytes of clients are passed on as they are.
    @ivar check: how each backend is checked all the time. None: only the clients' connections show
        whether a backend is well.
    """

    backends: tuple[Backend, ...] = ()
    source: str | None = None
    wait_for_source: bool = False
    balance: str = "pick_two"
    limit: int = _POLICY.limit
    total_limit: int | None = None
    connect_ahead: int = 0
    max_waiters: int | None = None
    connect_timeout: float = 5.0
    fail_fast: bool = _POLICY.fail_fast
    tcp_keepalive: float | None = 10.0
    tcp_user_timeout: float | None = 60.0
    eject_after: int = Ejection().failures
    send_proxy: ProxyVersion | None = None
    tls: BackendTLS | None = None
    check: HealthCheck | None = None

    def __post_init__(self) -> None:
        """
        @raise ValueError: a setting has a wrong value, or two contradict each other.
        """
        check_whole("limit", self.limit, 1)
        check_whole("total_limit", self.total_limit, 1, optional=True)
        check_whole("connect_ahead", self.connect_ahead, 0)
        check_whole("max_waiters", self.max_waiters, 0, optional=True)
        check_whole("eject_after", self.eject_after, 0)
        check_duration("connect_timeout", self.connect_timeout)
        check_duration("tcp_keepalive", self.tcp_keepalive, optional=True)
        check_duration("tcp_user_timeout", self.tcp_user_timeout, optional=True)
        check_flag("wait_for_source", self.wait_for_source, ValueError)
        check_flag("fail_fast", self.fail_fast, ValueError)
        if self.balance not in NAMES:
            hint = did_you_mean(str(self.balance), NAMES)
            raise ValueError(f"balance must be a balancer, not {self.balance!r}: {hint}")
        if self.send_proxy is not None:
            check_word("send_proxy", self.send_proxy, get_args(ProxyVersion))
            if self.tls is not None:
                raise ValueError(
                    "send_proxy does not go together with tls: the header comes before the "
                    "handshake, and that is made before there is a client"
                )
        if self.connect_ahead > self.limit:
            raise ValueError(
                f"connect_ahead {self.connect_ahead} is more than the limit of {self.limit}: raise "
                "limit, or connect fewer ahead"
            )
        if self.source is not None and self.backends:
            raise ValueError(
                "source and backends are both given: expected one source, or the backends"
            )
        seen: dict[object, Backend] = {}
        names: dict[str, Backend] = {}
        for each in self.backends:
            if each.name is not None and names.setdefault(each.name, each) is not each:
                raise ValueError(f"backends has the name {each.name!r} twice; choose another")
            if seen.setdefault(each.key, each) is not each:
                raise ValueError(f"backends has {each.endpoint} twice; leave one out")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """A listener: its addresses, its group, and what it allows its clients.

    @ivar listen: where clients connect: server endpoint strings, such as
        C{tcp:6380:interface=127.0.0.1}.
    @ivar group: the name of the group whose backends serve the clients.
    @ivar settings: what the clients may do, and how long.
    """

    listen: tuple[str, ...]
    group: str
    settings: ListenerSettings = field(default_factory=ListenerSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The admin server: the API, the metrics and the page.

    @ivar listen: where it listens: server endpoint strings of UNIX sockets or loopback addresses.
        A UNIX socket is for its owner only, unless the string has a C{mode}.
    @ivar token_file: a file whose first line is the token that calls need which change something,
        unless they come by a UNIX socket. It is read at each such call. None: such calls are
        refused elsewhere.
    @ivar hosts: names by which browsers call it, besides addresses and C{localhost}.
    @ivar allow_remote: whether it may listen for other machines without TLS.
    """

    listen: tuple[str, ...]
    token_file: str | None = None
    hosts: tuple[str, ...] = ()
    allow_remote: bool = False

    def __post_init__(self) -> None:
        """
        @raise ValueError: a setting has a wrong value.
        """
        if not self.listen:
            raise ValueError("listen must name at least one address, such as unix:/run/kolus/admin")
        for each in self.hosts:
            if not _HOST.fullmatch(each):
                raise ValueError(
                    f"hosts must have names without scheme and port, such as kolus.example, not "
                    f"{each!r}"
                )
        check_flag("allow_remote", self.allow_remote, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that the daemon is told.

    @ivar groups: the groups by their names.
    @ivar listeners: the listeners by their names.
    @ivar admin: the admin server. None: there is none.
    @ivar grace: how many seconds clients have to finish after SIGTERM, before they are aborted.
    @ivar expiry_warning: days before its expiry from which on a certificate is warned of, once a
        day: one that a listener shows to clients, or a group to backends.
    @ivar takeover: the path of a UNIX socket by which a new process that is told the same path gets
        the listening sockets, so that no client is refused; then this one ends. None: there is no
        such path.
    @ivar name_servers: resolve names of backends: addresses, and ports if they are not 53. Empty:
        the machine's resolver does.
    """

    groups: Mapping[str, GroupSettings]
    listeners: Mapping[str, ListenerConfig]
    admin: AdminSettings | None = None
    grace: float = 30.0
    expiry_warning: float = 14.0
    takeover: str | None = None
    name_servers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """
        @raise ValueError: a setting has a wrong value.
        """
        check_seconds("grace", self.grace, optional=False, endless=False)
        days = self.expiry_warning
        if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days < 1e6:
            raise ValueError(f"expiry_warning must be a number of days from 0 up, not {days!r}")
        try:
            servers = [name_server_from_string(each) for each in self.name_servers]
        except ValueError as error:
            raise ValueError(f"name_servers: {error}") from None
        for at, each in enumerate(servers):
            if each in servers[:at]:
                raise ValueError(f"name_servers: {self.name_servers[at]} is given twice")
