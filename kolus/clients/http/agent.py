"""C{PoolAgent}: Twisted's agent, which parses a URL once.

Its state is the URLs that it has parsed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.web._newclient import _ensureValidURI
from twisted.web.client import URI, Agent
from twisted.web.error import SchemeNotSupported

from kolus.errors import shown

if TYPE_CHECKING:
    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IBodyProducer, IResponse

__all__ = ["PoolAgent"]

_MOST_KNOWN = 1000
_LONGEST = 1000
"""Bytes of a URL that is remembered."""


class PoolAgent(Agent):
    """As C{Agent}, which takes a tenth of a request to parse its URL: many URLs come again."""

    def __new__(cls, *_: Any, **__: Any) -> PoolAgent:
        agent: PoolAgent = super().__new__(cls)
        agent._parse = lru_cache(_MOST_KNOWN)(_parse)
        return agent

    _parse: Any

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See C{Agent.request}.

        @raise TypeError: C{uri} is no bytes.
        """
        if not isinstance(uri, bytes):
            raise TypeError(
                f"a URL must be bytes, such as b'http://example.com/', not {shown(uri)}"
            )
        if len(uri) > _LONGEST:
            return super().request(method, uri, headers, bodyProducer)
        parsed, path = self._parse(uri)
        try:
            endpoint = self._getEndpoint(parsed)  # type: ignore[no-untyped-call]
        except SchemeNotSupported:
            return fail()
        key = (parsed.scheme, parsed.host, parsed.port)
        answer: Deferred[IResponse] = self._requestWithEndpoint(
            key, endpoint, method, parsed, headers, bodyProducer, path
        )
        return answer


def _parse(uri: bytes) -> tuple[URI, bytes]:
    """The URL in parts, and what of it is sent."""
    parsed = URI.fromBytes(_ensureValidURI(uri.strip()))
    return parsed, parsed.originForm
