"""The front beside HAProxy and nginx: throughput and CPU, in shuffled rounds.

C{python -m tests.bench.tunnel} needs redis-server, redis-benchmark, haproxy and nginx with its
stream module. Each proxy is one process with one thread, before one redis-server or one sender of
bulk. The order is shuffled in each round; the figures are medians of the rounds, as ratios to
HAProxy in its default configuration, of bulk also to HAProxy with splicing tuned. CPU is that of
the proxy's process: on shared cores it is the sounder figure.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

Figure = tuple[float, float]
"""The units per second, and the CPU seconds for each."""

GIB = 1 << 30
_TICK = os.sysconf("SC_CLK_TCK")

HAPROXY = """
global
  nbthread 1
  maxconn 4000
  {tuning}
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  {splice}
frontend redis
  bind 127.0.0.1:{port}
  default_backend redis
backend redis
  server one 127.0.0.1:{redis}
frontend bulk
  bind 127.0.0.1:{bulk_port}
  default_backend bulk
backend bulk
  server one 127.0.0.1:{bulk}
"""
NGINX = """
load_module {module};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
stream {{
  server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{redis}; }}
  server {{ listen 127.0.0.1:{bulk_port}; proxy_pass 127.0.0.1:{bulk}; }}
}}
"""
_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


class Proxy:
    """A proxy that runs.

    @ivar name: its name in the table.
    @ivar port: leads to redis.
    @ivar bulk_port: leads to the sender of bulk.
    """

    def __init__(self, name: str, port: int, bulk_port: int, process: subprocess.Popen[bytes]):
        self.name, self.port, self.bulk_port = name, port, bulk_port
        self._process = process

    def cpu(self) -> float:
        """The CPU seconds that it and its children have used."""
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return sum(_cpu_of(int(each)) for each in [str(own), *children])


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


class Sender:
    """Sends so many bytes to whoever connects, from a process of its own."""

    def __init__(self, size: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.pid = os.fork()
        if not self.pid:
            self._serve(size)

    def _serve(self, size: int) -> None:
        piece = bytes(1 << 20)
        while True:
            connection, _ = self._listener.accept()
            try:
                for _ in range(size >> 20):
                    connection.sendall(piece)
                connection.close()
            except OSError:
                connection.close()

    def stop(self) -> None:
        """End its process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Bench:
    """The proxies, and what is measured of each."""

    def __init__(self, stack: ExitStack, quick: bool) -> None:
        self._quick = quick
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._size = GIB // 4 if quick else GIB
        sender = Sender(self._size)
        stack.callback(sender.stop)
        redis = _free_port()
        stack.enter_context(
            _running(["redis-server", "--port", str(redis), "--save", "", "--bind", "127.0.0.1"])
        )
        _wait_for(redis)
        self.direct = redis
        self.proxies: list[Proxy] = []
        for name, configure in self._kinds(folder):
            port, bulk_port = _free_port(), _free_port()
            command = configure(port, bulk_port, redis, sender.port)
            process = stack.enter_context(_running(command))
            _wait_for(port)
            self.proxies.append(Proxy(name, port, bulk_port, process))

    def _kinds(
        self, folder: Path
    ) -> Iterator[tuple[str, Callable[[int, int, int, int], list[str]]]]:
        def haproxy(tuning: str, splice: str) -> Callable[[int, int, int, int], list[str]]:
            def configure(port: int, bulk_port: int, redis: int, bulk: int) -> list[str]:
                file = folder / f"haproxy{port}.cfg"
                ports = {"port": port, "bulk_port": bulk_port, "redis": redis, "bulk": bulk}
                file.write_text(HAPROXY.format(tuning=tuning, splice=splice, **ports))
                return ["haproxy", "-db", "-f", str(file)]

            return configure

        def nginx(port: int, bulk_port: int, redis: int, bulk: int) -> list[str]:
            file = folder / "nginx.conf"
            ports = {"port": port, "bulk_port": bulk_port, "redis": redis, "bulk": bulk}
            file.write_text(NGINX.format(folder=folder, module=_MODULE, **ports))
            return ["nginx", "-c", str(file), "-p", str(folder)]

        def kolus(port: int, bulk_port: int, redis: int, bulk: int) -> list[str]:
            file = folder / "kolus.toml"
            file.write_text(
                f"[groups.redis]\nlimit = 2000\nbackends = ['tcp:127.0.0.1:{redis}']\n"
                f"[groups.bulk]\nbackends = ['tcp:127.0.0.1:{bulk}']\n"
                "[listeners.redis]\n"
                f"listen = ['tcp:{port}:interface=127.0.0.1']\ngroup = 'redis'\n"
                "[listeners.bulk]\n"
                f"listen = ['tcp:{bulk_port}:interface=127.0.0.1']\ngroup = 'bulk'\n"
            )
            command = ["-m", "twisted", "kolus", "--config", str(file)]
            return [sys.executable, *command]

        yield "kolus", kolus
        yield "haproxy", haproxy("", "")
        yield "haproxy, splice", haproxy("tune.pipesize 1048576", "option splice-auto")
        if os.path.exists(_MODULE):
            yield "nginx", nginx

    def loads(self) -> dict[str, Callable[[Proxy], Figure]]:
        """What is measured, by its name."""
        part = 5 if self._quick else 1
        return {
            "-P 1": lambda proxy: self._redis(proxy, 50_000 // part, "-P", "1"),
            "-P 16": lambda proxy: self._redis(proxy, 500_000 // part, "-P", "16"),
            "-k 0": lambda proxy: self._redis(proxy, 10_000 // part, "-k", "0"),
            "bulk": self._bulk,
        }

    def _redis(self, proxy: Proxy, count: int, *options: str) -> Figure:
        command = ["redis-benchmark", "-p", str(proxy.port), "-c", "50", "-t", "get", "-q"]
        before = proxy.cpu()
        done = subprocess.run(
            [*command, "-n", str(count), *options], capture_output=True, text=True, check=True
        )
        found = re.findall(r"GET: ([\d.]+) requests per second", done.stdout)
        return float(found[-1]), (proxy.cpu() - before) / count

    def _bulk(self, proxy: Proxy) -> Figure:
        before, began = proxy.cpu(), time.perf_counter()
        buffer = bytearray(1 << 20)
        got = 0
        with socket.create_connection(("127.0.0.1", proxy.bulk_port)) as connection:
            while size := connection.recv_into(buffer):
                got += size
        if got != self._size:
            raise AssertionError(f"{proxy.name}: {got} bytes of {self._size}")
        took = time.perf_counter() - began
        return got / GIB / took, (proxy.cpu() - before) * GIB / got


GOALS = {
    ("-P 1", "haproxy"): (0.9, 1.3),
    ("-P 16", "haproxy"): (0.9, 1.3),
    ("-k 0", "haproxy"): (1 / 1.5, 3.0),
    ("bulk", "haproxy, splice"): (1.0, 1.2),
}
"""For a load and what it is compared with: the least throughput and the most CPU, as ratios."""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short loads")
    parser.add_argument("--only", help="one load, such as '-k 0'")
    chosen = parser.parse_args()
    for each in ("redis-server", "redis-benchmark", "haproxy", "nginx"):
        if shutil.which(each) is None:
            sys.exit(f"there is no {each}: install it first")
    figures: dict[tuple[str, str], list[Figure]] = {}
    with ExitStack() as stack:
        bench = Bench(stack, chosen.quick)
        loads = {n: f for n, f in bench.loads().items() if chosen.only in (None, n)}
        for _ in range(chosen.rounds):
            runs = [(name, proxy) for name in loads for proxy in bench.proxies]
            random.shuffle(runs)
            for name, proxy in runs:
                figures.setdefault((name, proxy.name), []).append(loads[name](proxy))
    for line in _table(figures):
        print(line)


def _table(figures: dict[tuple[str, str], list[Figure]]) -> Iterator[str]:
    medians = {
        key: (statistics.median(x for x, _ in each), statistics.median(x for _, x in each))
        for key, each in figures.items()
    }
    yield "| load | proxy | per second | CPU us each | throughput ratio | CPU ratio | goals |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for (load, name), (rate, cpu) in sorted(medians.items()):
        to = "haproxy, splice" if load == "bulk" else "haproxy"
        base_rate, base_cpu = medians[load, to]
        goals = GOALS.get((load, to)) if name == "kolus" else None
        told = f">= {goals[0]:.2f}, <= {goals[1]:.1f}" if goals else ""
        yield (
            f"| {load} | {name} | {rate:.4g} | {cpu * 1e6:.4g} | {rate / base_rate:.2f} | "
            f"{cpu / base_cpu if base_cpu else 0:.2f} | {told} |"
        )


if __name__ == "__main__":
    main()
