"""C{DNSSource}: the backends that the records of a DNS name tell, asked for again as they expire.

Its state: the audience; the last good answer to each kind of question; the records in it that the
log has told of; how many times in a row asking has failed; its own resolver, unless one is given;
and either the questions that are out, or the delayed call that asks again. C{_ask} and C{_answered}
change it, and C{stop} ends it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorUDP, IResolver
from twisted.logger import Logger
from twisted.names.dns import domainString
from zope.interface import implementer

from kolus.backend import Backend
from kolus.backoff import Backoff, Rng
from kolus.errors import reason_of
from kolus.interfaces import ISource
from kolus.sources import records
from kolus.sources.audience import Audience, Listener
from kolus.sources.resolver import OwnResolver, check_servers
from kolus.support import is_duration

__all__ = ["DNSSource"]

_log = Logger()

_PATIENCE = (1, 3, 6)
"""Seconds to wait for each of three attempts at a question; at each of several name servers."""

_DEADLINE = 60.0
"""Seconds after which a question is given up, whatever the resolver still tries."""

_BACKOFF = Backoff(first=1.0)

_Answers = dict[str, Sequence[Any]]


@implementer(ISource)
class DNSSource:
    """Asks for the A and AAAA records of a name, or for its SRV records.

    What is told is sorted, so that another order of the same records is no change. Asking fails if
    there is no answer, an error, no such name or no such record; then the last good list stays, the
    log says so once until it works again, and it is asked again with back-off. If only one of the
    questions for IPv4 and IPv6 fails, its last good answer stays, beside the other's new one.

    Of SRV records those with the lowest priority number are told and no others, even if all of them
    are down: the name server must leave them out. One that cannot be used, as its port is 0 for
    example, is left out, which the log says once; asking fails if none is left. The targets' names
    are resolved at each connect, as C{Backend.connector} says, by the reactor's resolver, and not
    by the name servers here: to ask these, install a C{HostResolver}.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        port: int | None = None,
        *,
        kind: str = "addresses",
        resolver: IResolver | None = None,
        servers: Sequence[tuple[str, int]] | None = None,
        least_ttl: float = 1.0,
        most_ttl: float = 300.0,
        make_endpoint: records.MakeEndpoint = records.tcp,
        backoff: Backoff = _BACKOFF,
        rng: Rng = random,
    ) -> None:
        """
        @param reactor: to ask name servers with; with a C{resolver} a clock is enough.
        @param name: in full: no search domain is appended.
        @param port: of the backends; SRV records bring theirs.
        @param kind: C{addresses} asks for A and AAAA records, C{ipv4} and C{ipv6} for one of them,
            C{srv} for SRV records.
        @param resolver: asked instead of the name servers. Its lookups are cancelled when the
            source stops; what else it keeps is its owner's.
        @param servers: name servers, as pairs (address, port); C{None} for those of
            C{/etc/resolv.conf}, after C{/etc/hosts}.
        @param least_ttl: seconds until the name is asked for again, at the least, whatever the
            shortest time to live of its records is.
        @param most_ttl: the same, at the most.
        @param make_endpoint: makes the endpoint string of a host or address and a port. Of an
            address of which it raises or makes none, asking fails; an SRV record is left out.
        @param backoff: the delays after failures.
        @param rng: where the jitter of these comes from.
        @raise ValueError: a value cannot be used; C{name} is an address, for example.
        """
        if kind not in records.LOOKUPS:
            raise ValueError(f"kind must be one of {', '.join(records.LOOKUPS)}, not {kind!r}")
        if not (is_duration(least_ttl) and is_duration(most_ttl) and least_ttl <= most_ttl):
            raise ValueError(
                "the shortest and longest times to live must be numbers of seconds above 0, in "
                f"this order, not {least_ttl!r} and {most_ttl!r}"
            )
        if resolver is not None and servers is not None:
            raise ValueError("give a resolver or name servers, not both")
        if resolver is None and not IReactorUDP.providedBy(reactor):
            raise ValueError(f"asking name servers needs a reactor with UDP, not {reactor!r}")
        self.name = _checked_name(name)
        self.port = _checked_port(port, kind)
        self.kind = kind
        self._clock = reactor
        self._given = resolver
        self._servers = None if servers is None else check_servers(servers)
        self._least, self._most = least_ttl, most_ttl
        self._make_endpoint = make_endpoint
        self._backoff, self._rng = backoff, rng
        self._audience = Audience()
        self._own: OwnResolver | None = None
        self._known: _Answers = {}
        self._unusable: list[str] = []
        self._failures = 0
        self._asked: Deferred[Any] | None = None
        self._again: IDelayedCall | None = None

    def start(self, listener: Listener) -> None:
        self._audience.open(listener)
        self._ask()

    def stop(self) -> None:
        asked, self._asked = self._asked, None
        again, self._again = self._again, None
        self._known, self._unusable, self._failures = {}, [], 0
        self._audience.close()
        if again is not None:
            again.cancel()
        if asked is not None:
            asked.cancel()
        self._close_resolver()

    def __repr__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"<DNSSource {self.kind} of {self.name}{port}>"

    def _ask(self) -> None:
        self._again = None
        questions = [
            maybeDeferred(self._look_up, each)
            .addTimeout(_DEADLINE, self._clock)
            .addCallback(records.of_answer)
            for each in records.LOOKUPS[self.kind]
        ]
        self._asked = asked = DeferredList(questions, consumeErrors=True)
        asked.addCallback(self._answered, asked)
        asked.addErrback(lambda failure: _log.failure("telling the backends failed", failure))

    def _look_up(self, lookup: str) -> Any:
        resolver = self._given
        if resolver is None:
            if self._own is None:
                self._own = OwnResolver(self._clock, self._servers)
            resolver = self._own.resolver
        return getattr(resolver, lookup)(self.name, _PATIENCE)

    def _answered(self, results: Sequence[tuple[bool, Any]], asked: Deferred[Any]) -> None:
        """Tell what the answers say, after having arranged for the next question."""
        if asked is not self._asked:
            return  # it was stopped
        self._asked = None
        answers: _Answers = {}
        failures = []
        for lookup, (succeeded, result) in zip(records.LOOKUPS[self.kind], results, strict=True):
            if succeeded:
                answers[lookup] = result
            elif records.says_there_is_none(reason_of(result)):
                answers[lookup] = ()
            else:
                failures.append(reason_of(result))
        known = {**self._known, **answers}
        backends = self._backends_of(known, failures)
        if backends:
            self._known = known
        delay = self._back_off(failures) if failures else self._time_to_live(answers)
        self._again = self._clock.callLater(delay, self._ask)
        if backends:
            self._audience.tell(backends)

    def _backends_of(self, known: _Answers, failures: list[BaseException]) -> list[Backend]:
        """
        @param failures: one is added if there are no backends.
        """
        every = [record for answer in known.values() for record in answer]
        unusable: list[str] = []
        try:
            if self.port is None:
                backends, unusable = records.services(every, self._make_endpoint)
            else:
                backends = records.addresses(every, self.port, self._make_endpoint)
        except Exception as error:  # of make_endpoint, anything
            failures.append(error)
            return []
        if backends:
            self._leave_out(unusable)
        elif unusable:
            failures.append(LookupError(f"no record can be used: {'; '.join(unusable)}"))
        elif not failures:
            failures.append(LookupError("there is no such name, or it has no such records"))
        return backends

    def _leave_out(self, unusable: list[str]) -> None:
        """Log each once, for as long as it is told."""
        known, self._unusable = self._unusable, unusable
        for each in unusable:
            if each not in known:
                _log.warn("a record of {name} is left out: {record}", name=self.name, record=each)

    def _time_to_live(self, answers: _Answers) -> float:
        """Seconds until the answers expire; when they do, asking goes on."""
        if self._failures:
            self._failures = 0
            _log.info("{name} is answered again", name=self.name)
        shortest = records.ttl([record for answer in answers.values() for record in answer])
        return min(max(shortest, self._least), self._most)

    def _back_off(self, failures: list[BaseException]) -> float:
        """Seconds until the next attempt after one that failed."""
        self._failures += 1
        # Twisted's resolver may never answer a question again after some failures: it takes it for
        # one that is still out.
        self._close_resolver()
        if self._failures == 1:
            _log.warn(
                "asking for the {kind} of {name} failed: {why}; {kept}",
                kind=self.kind,
                name=self.name,
                why=" and ".join(dict.fromkeys(map(records.explain, failures))),
                kept="what was told stays" if self._audience.has_heard else "there is no list yet",
            )
        return self._backoff.delay(self._failures, self._rng)

    def _close_resolver(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own.close()


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f"a DNS name is a string, not {name!r}")
    if isIPAddress(name) or isIPv6Address(name.strip("[]")):
        raise ValueError(f"{name!r} is an address, which needs no DNS")
    bare = name.removesuffix(".")
    try:
        length = len(domainString(bare))
    except UnicodeError as error:
        raise ValueError(f"not a DNS name: {name!r} ({error})") from error
    if not 0 < length < 254 or any(each.isspace() or each in ":/" for each in name):
        raise ValueError(f"not a DNS name: {name!r}")
    return bare


def _checked_port(port: int | None, kind: str) -> int | None:
    if kind == "srv":
        if port is not None:
            raise ValueError(f"SRV records bring their own ports: leave out {port!r}")
    elif type(port) is not int or not 0 < port < 65536:
        raise ValueError(f"port must be a whole number from 1 to 65535, not {port!r}")
    return port
