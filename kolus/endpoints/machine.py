"""Tells whether a connect failed because this machine lacks something.

Such a failure says nothing of the backend. It concerns all backends if descriptors, memory or
threads are lacking; only one if there is no address or port from which to connect to it, or no
process to speak to. That there is no route to a backend, or that a firewall forbids it, may be true
of one backend alone, and is held against it.

Python reads a codec from its file when it first needs it, and remembers for ever that it could not.
C{getaddrinfo} needs that of host names, so it is read here, while there are descriptors.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import errno
import socket
from typing import Any

from twisted.internet import defer, error
from twisted.internet._resolver import GAIResolver

from kolus.errors import MachineFault
from kolus.support import causes, soft_limit

__all__ = ["TIME_OUTS", "machine_fault", "threads_fault"]

_LACKING = {
    errno.EMFILE: "this process has no file descriptor left: raise its limit{limit}, such as with "
    "ulimit -n, or lower the limits of the pool",
    errno.ENFILE: "this machine has no file descriptor left: raise fs.file-max",
    errno.ENOBUFS: "this machine has no buffer left for a socket",
    errno.ENOMEM: "this machine has no memory left for a connection",
}
_OF_ADDRESSES = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
_NO_ADDRESS = (
    "this machine has no address or port left from which to connect: widen "
    "net.ipv4.ip_local_port_range, keep connections for longer, or correct the address to bind to"
)
_NO_PROCESS = (
    "this machine can start no more processes: raise their limit, such as with ulimit -u or by "
    "pids.max of its container, or lower the limits of the pool"
)
_NO_THREAD = "can't start new thread"
_THREADS = "host names cannot be resolved in the reactor's thread pool: {why}"
TIME_OUTS = (defer.TimeoutError, error.TimeoutError)
_VAGUE = (*TIME_OUTS, error.DNSLookupError, error.UnknownHostError)


def machine_fault(failed: BaseException, reactor: Any = None) -> MachineFault | None:
    """The fault of this machine that an attempt to connect failed for; C{None} if it is none.

    @param failed: the error of the attempt. Errors that it was caused by are looked at, too.
    @param reactor: what connects. It is asked for its threads if the error is a time-out; C{None}
        for what resolves no name.
    """
    for each in causes(failed):
        if isinstance(each, MachineFault):
            return each
        number = getattr(each, "osError", None) or getattr(each, "errno", None)
        if isinstance(each, MemoryError):
            number = errno.ENOMEM
        if isinstance(number, int) and number in _LACKING:
            return _lacks(number, failed)
        if number == errno.EAGAIN:  # a socket that is not ready is no error
            return MachineFault(_NO_PROCESS, failed, is_general=False)
        if number in _OF_ADDRESSES or isinstance(each, error.ConnectBindError):
            return MachineFault(_NO_ADDRESS, failed, is_general=False)
        if isinstance(each, RuntimeError) and str(each) == _NO_THREAD:
            return MachineFault(_THREADS.format(why="no thread can be started"), failed)
    if getattr(failed, "osError", None) or not any(map(_hides_its_reason, causes(failed))):
        return None
    # Without a descriptor, no name has an address, no file can be read, or nothing ends.
    number = _descriptors_fault()
    if number is not None:
        return _lacks(number, failed)
    return threads_fault(reactor, failed) if isinstance(failed, TIME_OUTS) else None


def threads_fault(
    reactor: Any, failed: BaseException, *, may_wait: bool = False
) -> MachineFault | None:
    """What prevents the reactor's threads from resolving a name that is being resolved; C{None} if
    nothing does, or if the reactor resolves names without threads.

    @param failed: the error that this explains.
    @param may_wait: whether all threads may be busy.
    """
    pool: Any = getattr(reactor, "threadpool", None)
    if pool is None or type(getattr(reactor, "nameResolver", None)) is not GAIResolver:
        return None
    if not (pool.started or pool.joined):  # it starts with the reactor
        return None
    number = _descriptors_fault()
    if number is not None:  # getaddrinfo raises then, and Twisted's resolver never tells
        return _lacks(number, failed)
    if pool.joined:
        why = "it is stopped"
    elif len(pool.working) >= pool.max and not may_wait:
        why = (
            f"all its {pool.max} threads are busy; raise their number with "
            "reactor.suggestThreadPoolSize, or block in threads of your own"
        )
    elif not (pool.working or pool.waiters):
        why = "no thread can be started"
    else:
        return None
    return MachineFault(_THREADS.format(why=why), failed)


def _hides_its_reason(failed: BaseException) -> bool:
    """Whether an error tells only that something failed, as those of resolvers, and of OpenSSL when
    it cannot read a file."""
    of_openssl = type(failed).__module__ == "OpenSSL.SSL" and "system library" in str(failed)
    return of_openssl or isinstance(failed, _VAGUE)


def _lacks(number: int, failed: BaseException) -> MachineFault:
    most = soft_limit() if number == errno.EMFILE else None
    limit = "" if most is None else f" of {most}"
    return MachineFault(_LACKING[number].format(limit=limit), failed)


def _descriptors_fault() -> int | None:
    """The number of the error that opening a descriptor gives now; C{None} if it gives one."""
    try:
        socket.socket().close()
    except OSError as failed:
        return failed.errno if failed.errno in _LACKING else None
    return None
