"""Many short connections through a daemon while an operator, and bad luck, interfere.

By hand: C{python -m tests.net.chaos --minutes 5 --connections 200000}. One backend is killed and
comes back, one is stopped for a while, the configuration is changed and read again each second, a
new process takes over, and a backend is drained and admitted. Only connections to the killed
backend may break, when it is killed; memory and descriptors do not grow.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.net.chaos_backend import HEAD
from tests.net.chaos_clients import Broken, Clients
from tests.net.chaos_process import RUN, Process, Sample
from tests.net.servers import free_port
from tests.rigs.patience import PATIENCE

__all__ = ["Chaos"]

_NAMES = ("a", "b", "c")
_KILLED, _STOPPED, _DRAINED = _NAMES
_NULS = "\\u0000" * HEAD.size  # as TOML writes it: nothing is to be sent back
_MOST_GROWTH = 10 << 20
_ENOUGH = 60
"""So many samples show growth. In fewer, what a busy machine makes wait looks the same."""
_MOST_LEFT = 60
"""Connections that are kept ready, or were made in vain and are idle."""
_SETTLED = 5.0
"""Seconds after which a process has used everything once."""


class Chaos:
    """One run.

    @ivar faults: what must not have happened.
    """

    def __init__(self, seconds: float, connections: int, write: Callable[[str], object]) -> None:
        self.faults: list[str] = []
        self._seconds = seconds
        self._connections = connections
        self._write = write
        self._killed_at = self._known_at = 0.0
        self._reloads = 0

    def run(self) -> None:
        """Run it. It takes a few seconds longer than the connections are opened for."""
        with tempfile.TemporaryDirectory(prefix="kolus") as folder, ExitStack() as stack:
            self._folder, self._stack = Path(folder), stack
            self._port = free_port()
            self._ports = {name: free_port() for name in _NAMES}
            self._backends = {name: self._backend(name) for name in _NAMES}
            self._configure()
            self._daemons = [self._daemon()]
            clients = Clients(self._port, self._connections, self._seconds)
            self._first = self._daemons[0].sample()
            began = time.monotonic()
            clients.start()
            self._interfere(clients, began)
            took = time.monotonic() - began
            self._end(clients, took)

    def _interfere(self, clients: Clients, began: float) -> None:
        plan = {
            0.10: self._kill,
            0.20: self._revive,
            0.30: lambda: self._backends[_STOPPED].child.send_signal(signal.SIGSTOP),
            0.35: lambda: self._backends[_STOPPED].child.send_signal(signal.SIGCONT),
            0.45: self._restart,
            0.65: lambda: self._steer("drain", _DRAINED),
            0.75: lambda: self._steer("admit", _DRAINED),
        }
        due = [(share * self._seconds, act) for share, act in plan.items()]
        tick = 0
        while not clients.is_over:
            time.sleep(max(0.0, began + tick - time.monotonic()))
            tick += 1
            while due and time.monotonic() - began >= due[0][0]:
                due.pop(0)[1]()
            self._configure()
            self._daemons[-1].child.send_signal(signal.SIGHUP)
            # A busy machine falls behind, and then has more of them at a time.
            sample = self._daemons[-1].sample(clients.present)
            if tick % 10 == 0:
                self._write(
                    f"{tick} s: {clients.done} done, {len(clients.broken)} broken, "
                    f"{sample.memory / 2**20:.1f} MiB, {clients.present} are there, "
                    f"{sample.descriptors} other descriptors"
                )

    # What happens

    def _backend(self, name: str) -> Process:
        program = "-m", "tests.net.chaos_backend", name, self._ports[name]
        made = Process(self._stack, self._folder / f"backend-{name}", *program)
        made.wait_for("ready")
        return made

    def _configure(self) -> None:
        """Write the file, each time another one; every tenth gives the group another pool."""
        self._reloads += 1
        backends = "\n".join(
            f'    {{ endpoint = "tcp:127.0.0.1:{port}", name = "{name}" }},'
            for name, port in self._ports.items()
        )
        temporary = self._folder / "new"
        temporary.write_text(
            f'takeover = "{self._folder}/takeover"\n'
            f'[admin]\nlisten = "unix:{self._folder}/admin"\n'
            f"[groups.main]\nbackends = [\n{backends}\n]\n"
            f"limit = {100 + self._reloads % 7}\n"
            f"connect_timeout = {5 + self._reloads // 10 % 3}\n"
            "connect_ahead = 5\n"
            f'check = {{ kind = "exchange", send = "{_NULS}", expect = "=", interval = 1 }}\n'
            "[listeners.main]\n"
            f'listen = "tcp:{self._port}:interface=127.0.0.1"\n'
            f"queue_timeout = {30 + self._reloads % 5}\n"
            "half_closed_timeout = 60\n"  # longer than a backend is stopped
        )
        temporary.rename(self._folder / "kolus.toml")

    def _daemon(self) -> Process:
        number = len(list(self._folder.glob("daemon-*")))
        program = "-c", RUN, "-n", "--pidfile=", "kolus", f"--config={self._folder}/kolus.toml"
        made = Process(self._stack, self._folder / f"daemon-{number}", *program)
        made.wait_for("kolus listens on 127.0.0.1")
        return made

    def _kill(self) -> None:
        self._killed_at = time.monotonic()
        self._backends[_KILLED].child.kill()
        self._backends[_KILLED].child.wait()
        # A daemon that answers twice since has read which of its connections have ended.
        for _ in range(2):
            self._steer("status")
        self._known_at = time.monotonic()

    def _revive(self) -> None:
        self._backends[_KILLED] = self._backend(_KILLED)

    def _restart(self) -> None:
        before = self._daemons[-1]
        self._daemons.append(self._daemon())
        before.wait_for("a new process has taken over")

    def _steer(self, *what: str) -> None:
        command = [sys.executable, "-m", "kolus", f"--url=unix:{self._folder}/admin", *what]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self._write(done.stdout.strip() or done.stderr.strip())
        if done.returncode:
            self.faults.append(f"kolus {what} ended with {done.returncode}: {done.stderr}")

    # What is looked at in the end

    def _end(self, clients: Clients, took: float) -> None:
        last = self._daemons[-1]
        idle = self._at_rest(last)
        last.child.terminate()
        for at, each in enumerate(self._daemons):
            status = each.child.wait(PATIENCE)
            if status != (-signal.SIGTERM if each is last else 0):
                self.faults.append(f"daemon {at} ended with {status}")
            log = each.log.read_text()
            if "Traceback" in log or "Unhandled" in log:
                self.faults.append(f"daemon {at} logged a failure:\n{log[-5000:]}")
            self._look_at_growth(at, each.samples[:-1] if each is last else each.samples)
        if idle.descriptors > self._first.descriptors + _MOST_LEFT:
            self.faults.append(f"{idle.descriptors} descriptors are left, {self._first} at first")
        excused = [each for each in clients.broken if self._is_excused(each)]
        self.faults += [str(each) for each in clients.broken if each not in excused]
        whole = clients.done + len(clients.broken)
        self._write(
            f"{whole} connections in {took:.0f} s, {clients.done} got all back, "
            f"{len(excused)} broke with the killed backend, "
            f"{len(clients.broken) - len(excused)} broke otherwise; the longest took "
            f"{clients.slowest:.1f} s; {self._reloads} reloads; {idle.descriptors} descriptors left"
        )
        if whole != self._connections:
            self.faults.append(f"{self._connections - whole} connections never ended")

    def _at_rest(self, daemon: Process) -> Sample:
        """The daemon when it has closed all that it will close."""
        for _ in range(int(10 * PATIENCE)):
            time.sleep(0.1)
            sample = daemon.sample()
            if sample.descriptors <= self._first.descriptors + _MOST_LEFT:
                break
        return sample

    def _is_excused(self, broken: Broken) -> bool:
        """Whether it was at the killed backend, or may have been as far as anybody knows."""
        was_there = broken.began <= self._known_at and self._killed_at <= broken.ended
        return was_there and broken.backend in ("", _KILLED)

    def _look_at_growth(self, number: int, samples: list[Sample]) -> None:
        steady = [each for each in samples if each.age > _SETTLED]
        if len(steady) < _ENOUGH:
            return
        part = len(steady) // 3
        first, last = steady[:part], steady[-part:]
        for name, most in (("memory", _MOST_GROWTH), ("descriptors", 40)):
            before = statistics.median(getattr(each, name) for each in first)
            after = statistics.median(getattr(each, name) for each in last)
            self._write(
                f"daemon {number}: {name} {before:.0f} in the first third, then {after:.0f}"
            )
            if after > before + most:
                self.faults.append(f"daemon {number}: {name} grew from {before} to {after}")


def main() -> None:
    """Run it by hand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=200_000)
    chosen = parser.parse_args()
    chaos = Chaos(chosen.minutes * 60, chosen.connections, lambda line: print(line, flush=True))
    chaos.run()
    for each in chaos.faults[:20]:
        print(each)
    print(f"{len(chaos.faults)} faults")
    sys.exit(bool(chaos.faults))


if __name__ == "__main__":
    main()
