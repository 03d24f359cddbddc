"""haproxy and nginx as balancers of TCP, which send and accept the PROXY protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.net.servers import free_port
from tests.net.tunnel_peers import until

__all__ = ["KINDS", "Balancer"]

_HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 20s
    timeout client 20s
    timeout server 20s
frontend clients
    bind 127.0.0.1:{port} {accepts}
    default_backend servers
backend servers
    server only 127.0.0.1:{to} {sends}
"""

_NGINX = """
daemon off;
load_module {module};
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 100; }}
stream {{
    server {{
        listen 127.0.0.1:{port} {accepts};
        set_real_ip_from 127.0.0.1;
        proxy_pass 127.0.0.1:{to};
        proxy_protocol on;
    }}
}}
"""

KINDS = {
    "haproxy v1": "send-proxy",
    "haproxy v2": "send-proxy-v2",
    "haproxy v2 with a checksum": "send-proxy-v2 proxy-v2-options crc32c",
    "nginx": "",
}
"""What is written for the server that each kind of balancer sends headers to."""

_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class Balancer(ProcessProtocol):
    """A balancer that passes on to a port of this machine, with a PROXY header.

    @ivar port: where it listens.
    """

    transport: Any

    def __init__(
        self, reactor: Any, kind: str, binary: str, folder: Path, to: int, *, accepts: bool = False
    ) -> None:
        """
        @param kind: one of C{KINDS}.
        @param to: the port that it connects to.
        @param accepts: whether its own clients send a PROXY header.
        """
        self.port = port = free_port()
        is_nginx = kind == "nginx"
        words = ("proxy_protocol" if is_nginx else "accept-proxy") if accepts else ""
        path = folder / f"balancer-{port}"
        text = (_NGINX if is_nginx else _HAPROXY).format(
            port=port, to=to, accepts=words, sends=KINDS[kind], folder=folder, module=_MODULE
        )
        path.write_text(text)
        options = ["-p", str(folder), "-c", str(path)] if is_nginx else ["-db", "-f", str(path)]
        self._command = [binary, *options]
        self._reactor = reactor
        self._printed = b""
        self._ended: Deferred[None] = Deferred()

    async def __aenter__(self) -> Balancer:
        """Start it, and wait until it listens. It is not connected to: that would be a client."""
        self._reactor.spawnProcess(self, self._command[0], self._command, env=None)
        try:
            await until(self._reactor, self._listens)
        except AssertionError:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        if not self._ended.called:
            self.transport.signalProcess("TERM" if "nginx" in self._command[0] else "KILL")
        await self._ended

    def _listens(self) -> bool:
        assert not self._ended.called, self._printed
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return any(row[1] == f"0100007F:{self.port:04X}" and row[3] == "0A" for row in rows)

    def outReceived(self, data: bytes) -> None:
        self._printed += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._ended.callback(None)
