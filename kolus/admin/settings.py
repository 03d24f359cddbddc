"""C{AdminSettings}: where the admin server listens, and who may change something."""

from __future__ import annotations

from dataclasses import dataclass

from kolus.support import check_seconds, check_whole

__all__ = ["AdminSettings"]


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """
    @ivar listen: server endpoint strings: C{unix:PATH}, or C{tcp:PORT:interface=127.0.0.1}. A UNIX
        socket is for its owner only, unless the string has a C{mode}. Empty: there is no admin
        server.
    @ivar token_file: a file with the token that changing calls need, but for those over a UNIX
        socket. It is read for each such call, so it may be replaced. C{None}: nobody can change
        anything over TCP.
    @ivar hosts: names by which the server is called in the C{Host} header, besides addresses and
        C{localhost}.
    @ivar allow_remote: whether it may listen for other machines without TLS.
    @ivar snapshot_interval: seconds between two snapshots in the stream of events.
    @ivar request_timeout: seconds from the first byte of a request to its last.
    @ivar body_limit: most bytes in the body of a request.
    @ivar most_streams: most clients that follow the events at a time.
    """

    listen: tuple[str, ...] = ()
    token_file: str | None = None
    hosts: tuple[str, ...] = ()
    allow_remote: bool = False
    snapshot_interval: float = 1.0
    request_timeout: float = 10.0
    body_limit: int = 16 * 1024
    most_streams: int = 32

    def __post_init__(self) -> None:
        check_seconds("snapshot_interval", self.snapshot_interval, optional=False)
        check_seconds("request_timeout", self.request_timeout, optional=False)
        check_whole("body_limit", self.body_limit, 0)
        check_whole("most_streams", self.most_streams, 0)
