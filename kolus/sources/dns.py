"""C{DNSSource}: takes the backends from the records of a DNS name, and asks again as they expire.

Its state: the subscription; the last good answer to each query; the unusable records that were
logged; the number of failures in a row; its own resolver, unless the caller gave one; and either
the queries in flight or the delayed call for the next ones. C{_ask} and C{_answered} change the
state, C{stop} clears it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorUDP, IResolver
from twisted.logger import Logger
from twisted.names.dns import domainString
from zope.interface import implementer

from kolus.backoff import Backoff, Rng
from kolus.errors import reason_of
from kolus.interfaces import ISource
from kolus.sources import records
from kolus.sources.resolver import OwnResolver, check_servers
from kolus.sources.subscription import Listener, Subscription
from kolus.support import call, check_duration, check_whole, steady

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = ["DNSSource"]

_log = Logger()

_TIMEOUTS = (1, 3, 6)
"""Time-outs in seconds of the three attempts at a query, for each name server."""

_DEADLINE = 60.0
"""Seconds after which a query fails, even if the resolver still retries."""

_BACKOFF = Backoff(first=1.0, most=30.0)
_FIRST_LIST_WITHIN = 2.0
"""Seconds at most between two lookups while there is no list yet, for which requests wait."""

_Answers = dict[str, Sequence[Any]]


@implementer(ISource)
class DNSSource:
    """Looks up the A and AAAA records of a name, or its SRV records.

    The list is sorted, so the same records in another order are no change. A lookup fails if there
    is no answer, an error, no such name or no such record. Then the last good list stays, the
    source logs one warning, and it retries with back-off. If only the IPv4 or only the IPv6 query
    fails, the last good answer to it is used together with the new answer to the other.

    Only the SRV records with the lowest priority number are used, even if all their backends are
    down: the name server must then remove them. An unusable record, with port 0 for example, is
    logged once and left out. The lookup fails if no record remains. Host names in SRV records are
    resolved at each connect by the reactor's resolver (see C{Backend.connector}), not by
    C{servers}. Install a C{HostResolver} to use these name servers for them too.
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
        @param reactor: must support UDP; with a C{resolver} a clock is enough.
        @param name: the full name: no search domain is appended.
        @param port: the port of the backends. Leave it out for SRV records, which have their own.
        @param kind: C{addresses} for A and AAAA records, C{ipv4} or C{ipv6} for one of the two,
            C{srv} for SRV records.
        @param resolver: is used instead of name servers. When the source stops, it cancels its own
            lookups; everything else about the resolver is the caller's to clean up.
        @param servers: name servers, as pairs (address, port). C{None}: C{/etc/hosts}, then the
            name servers in C{/etc/resolv.conf}.
        @param least_ttl: the minimum of seconds until the next lookup, whatever the shortest time
            to live of the records is.
        @param most_ttl: the maximum of seconds until the next lookup.
        @param make_endpoint: makes the endpoint string from a host or address and a port. If it
            raises or returns no endpoint, an address makes the lookup fail, and an SRV record is
            left out.
        @param backoff: the delays after failures. The default begins with one second.
        @param rng: source of the jitter of these delays.
        @raise ValueError: an argument is invalid: C{name} is an address, for example.
        """
        if kind not in records.LOOKUPS:
            raise ValueError(f"kind must be one of {', '.join(records.LOOKUPS)}, not {kind!r}")
        check_duration("least_ttl", least_ttl)
        check_duration("most_ttl", most_ttl)
        if least_ttl > most_ttl:
            raise ValueError(f"least_ttl={least_ttl!r} must not be above most_ttl={most_ttl!r}")
        if resolver is not None and servers is not None:
            raise ValueError("give a resolver or name servers, not both")
        if resolver is None and not IReactorUDP.providedBy(reactor):
            raise ValueError(f"DNS lookups need a reactor with UDP, not {reactor!r}")
        self.name = _checked_name(name)
        self.port = _checked_port(port, kind)
        self.kind = kind
        self._reactor = reactor
        self._clock = steady(reactor)
        self._custom_resolver = resolver
        self._servers = None if servers is None else check_servers(servers)
        self._least, self._most = least_ttl, most_ttl
        self._make_endpoint = make_endpoint
        self._backoff, self._rng = backoff, rng
        self._subscription = Subscription()
        self._own_resolver: OwnResolver | None = None
        self._answers: _Answers = {}
        self._unusable: list[str] = []
        self._failures = 0
        self._queries: Deferred[Any] | None = None
        self._next_query: IDelayedCall | None = None

    def start(self, listener: Listener) -> None:
        self._subscription.open(listener)
        self._ask()

    def stop(self) -> None:
        asked, self._queries = self._queries, None
        again, self._next_query = self._next_query, None
        self._answers, self._unusable, self._failures = {}, [], 0
        self._subscription.close()
        if again is not None:
            again.cancel()
        if asked is not None:
            asked.cancel()
        self._close_resolver()

    def __repr__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"<DNSSource {self.kind} of {self.name}{port}>"

    def _ask(self) -> None:
        self._next_query = None
        questions = [
            call(self._clock, self._look_up, each)
            .addTimeout(_DEADLINE, self._clock)
            .addCallback(records.of_answer)
            for each in records.LOOKUPS[self.kind]
        ]
        self._queries = asked = DeferredList(questions, consumeErrors=True)
        asked.addCallback(self._answered, asked)
        asked.addErrback(lambda failure: _log.failure("the listener raised", failure))

    def _look_up(self, lookup: str) -> Any:
        resolver = self._custom_resolver
        if resolver is None:
            if self._own_resolver is None:
                self._own_resolver = OwnResolver(self._reactor, self._servers)
            resolver = self._own_resolver.resolver
        return getattr(resolver, lookup)(self.name, _TIMEOUTS)

    def _answered(self, results: Sequence[tuple[bool, Any]], asked: Deferred[Any]) -> None:
        """Schedule the next lookup, then give the backends to the listener."""
        if asked is not self._queries:
            return  # stopped meanwhile
        self._queries = None
        answers: _Answers = {}
        failures = []
        for lookup, (succeeded, result) in zip(records.LOOKUPS[self.kind], results, strict=True):
            if succeeded:
                answers[lookup] = result
            elif records.says_there_is_none(reason_of(result)):
                answers[lookup] = ()
            else:
                failures.append(reason_of(result))
        known = {**self._answers, **answers}
        backends = self._backends_of(known, failures)
        if backends:
            self._answers = known
        delay = self._back_off(failures) if failures else self._time_to_live(answers)
        self._next_query = self._clock.callLater(delay, self._ask)
        if backends:
            self._subscription.tell(backends)

    def _backends_of(self, known: _Answers, failures: list[BaseException]) -> list[Backend]:
        """
        @param failures: the method appends a failure to it if there are no backends.
        """
        every = [record for answer in known.values() for record in answer]
        unusable: list[str] = []
        try:
            if self.port is None:
                backends, unusable = records.services(every, self._make_endpoint)
            else:
                backends = records.addresses(every, self.port, self._make_endpoint)
        except Exception as error:  # make_endpoint may raise anything
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
        """Log each unusable record once, as long as the name server returns it."""
        known, self._unusable = self._unusable, unusable
        for each in unusable:
            if each not in known:
                _log.warn("a record of {name} is left out: {record}", name=self.name, record=each)

    def _time_to_live(self, answers: _Answers) -> float:
        """Seconds until the answers expire. The lookup has succeeded: failures are reset."""
        if self._failures:
            self._failures = 0
            _log.info("lookups of {name} succeed again", name=self.name)
        shortest = records.ttl([record for answer in answers.values() for record in answer])
        return min(max(shortest, self._least), self._most)

    def _back_off(self, failures: list[BaseException]) -> float:
        """Seconds until the next lookup. This one has failed: the failure is counted."""
        self._failures += 1
        # After some failures Twisted's resolver believes that the query is still in flight, and
        # never answers it again. So the next lookup gets a new resolver.
        self._close_resolver()
        if self._failures == 1:
            _log.warn(
                "looking up the {kind} of {name} failed: {why}; {kept}",
                kind=self.kind,
                name=self.name,
                why=" and ".join(dict.fromkeys(map(records.explain, failures))),
                kept=self._subscription.what_stays,
            )
        delay = self._backoff.delay(self._failures, self._rng)
        return delay if self._subscription.has_heard else min(delay, _FIRST_LIST_WITHIN)

    def _close_resolver(self) -> None:
        own, self._own_resolver = self._own_resolver, None
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
            raise ValueError(f"SRV records have their own ports: leave out the port {port!r}")
    else:
        check_whole("port", port, 1, 65535)
    return port
