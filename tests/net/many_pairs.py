"""Many clients at the same time, each with its own connection to a backend, through a daemon.

By hand: C{python -m tests.net.many_pairs --pairs 5000}. Each client talks a few times while all are
connected; then nobody does for some seconds. Told are how long the answers take, the memory of each
pair, and the processor time of the quiet ones.
"""

from __future__ import annotations

import argparse
import random
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.net.chaos_backend import HEAD
from tests.net.chaos_process import RUN, Process
from tests.net.servers import free_port
from tests.rigs.patience import PATIENCE

__all__ = ["ManyPairs"]

_QUIET = 5.0
_MOST_QUIET = 0.25
_FEW = 10
_ROUNDS = 3


class ManyPairs:
    """One run.

    @ivar faults: what must not have happened.
    """

    def __init__(self, pairs: int, write: Callable[[str], object]) -> None:
        self.faults: list[str] = []
        self._pairs = pairs
        self._write = write

    def run(self) -> None:
        """Run it."""
        with tempfile.TemporaryDirectory(prefix="kolus") as folder, ExitStack() as stack:
            behind, port = free_port(), free_port()
            backend = ("-m", "tests.net.chaos_backend", "a", behind)
            Process(stack, Path(folder) / "backend", *backend).wait_for("ready")
            front = ("-c", RUN, "-n", "--pidfile=", "kolus", f"--backend=tcp:127.0.0.1:{behind}")
            front += (f"--listen=tcp:{port}:interface=127.0.0.1", f"--limit={self._pairs}")
            daemon = Process(stack, Path(folder) / "daemon", *front)
            daemon.wait_for("kolus listens on")
            empty = daemon.sample()
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
                for _ in range(self._pairs)
            ]
            for each in clients:
                each.sendall(HEAD.pack(1 << 31, False))  # all that comes is to be sent back
            self._talk(clients)
            full = daemon.sample()
            self._stay_quiet(daemon)
            self._talk(clients)
            for each in clients:
                each.close()
            self._wait_until_gone(daemon, empty.descriptors)
            each_pair = (full.memory - empty.memory) / self._pairs / 1024
            self._write(
                f"{self._pairs} pairs: {full.descriptors} descriptors, {each_pair:.1f} KiB each"
            )

    def _talk(self, clients: list[socket.socket]) -> None:
        """Each sends something else, all at once, and gets it back."""
        began = time.monotonic()
        for number in range(_ROUNDS):
            poll = select.poll()
            waiting = {}
            for client in clients:
                sent = random.Random(client.fileno() + number).randbytes(200)
                client.sendall(sent)
                waiting[client.fileno()] = (client, sent, bytearray())
                poll.register(client, select.POLLIN)
            while waiting:
                ready = poll.poll(PATIENCE * 1000)
                if not ready:
                    self.faults.append(f"{len(waiting)} clients got no answer")
                    return
                for descriptor, _ in ready:
                    client, sent, got = waiting[descriptor]
                    got += client.recv(4096)
                    if len(got.removeprefix(b"=a")) >= len(sent):
                        self._compare(sent, got)
                        poll.unregister(client)
                        del waiting[descriptor]
        took = time.monotonic() - began
        self._write(f"{_ROUNDS * len(clients)} answers in {took:.1f} s")

    def _compare(self, sent: bytes, got: bytearray) -> None:
        if got.removeprefix(b"=a") != sent:
            self.faults.append(f"{len(got)} other bytes than were sent")

    def _stay_quiet(self, daemon: Process) -> None:
        before = daemon.sample().busy
        time.sleep(_QUIET)
        share = (daemon.sample().busy - before) / _QUIET
        self._write(f"while nobody talks: {100 * share:.1f} % of a processor")
        if share > _MOST_QUIET:
            self.faults.append(f"{share} of a processor while nobody talks")

    def _wait_until_gone(self, daemon: Process, descriptors: int) -> None:
        # A connection that was made in vain is idle for a minute.
        for _ in range(int(10 * PATIENCE)):
            left = daemon.sample().descriptors
            if left <= descriptors + _FEW:
                return
            time.sleep(0.1)
        self.faults.append(f"{left} descriptors are left, of {descriptors} at first")


def main() -> None:
    """Run it by hand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5000)
    pairs = ManyPairs(parser.parse_args().pairs, lambda line: print(line, flush=True))
    pairs.run()
    for each in pairs.faults[:20]:
        print(each)
    sys.exit(bool(pairs.faults))


if __name__ == "__main__":
    main()
