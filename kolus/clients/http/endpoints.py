"""C{KnownEndpoints}: how an agent of a pool reaches each host."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

__all__ = ["KnownEndpoints", "secured"]


@implementer(IAgentEndpointFactory)
class KnownEndpoints:
    """Makes the endpoint of a host, unless the pool knows one.

    C{Agent} by itself makes one for each request, which is a seventh of the request's price.
    """

    def __init__(
        self,
        reactor: object,
        contexts: IPolicyForHTTPS,
        known: Callable[[Hashable], IStreamClientEndpoint | None],
    ) -> None:
        """
        @param known: gives the pool's endpoint for a key of C{Agent}.
        """
        self._reactor = reactor
        self._contexts = contexts
        self._known = known

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See C{IAgentEndpointFactory}."""
        known = self._known((uri.scheme, uri.host, uri.port))
        if known is not None:
            return known
        there = HostnameEndpoint(self._reactor, uri.host, uri.port)
        return secured(uri, there, self._contexts)


def secured(
    uri: URI, endpoint: IStreamClientEndpoint, contexts: IPolicyForHTTPS
) -> IStreamClientEndpoint:
    """The endpoint of a host, with TLS if the URI asks for it.

    @param contexts: decides about trust in the host.
    @raise SchemeNotSupported: the URI is not one of HTTP.
    @raise NotImplementedError: it is one of HTTPS, and pyOpenSSL is not installed.
    """
    if uri.scheme in (b"http", b"ws"):
        return endpoint
    if uri.scheme not in (b"https", b"wss"):
        raise SchemeNotSupported(
            f"the scheme of a URL must be http or https, not {uri.scheme.decode('latin-1')!r}: "
            "write http://HOST/PATH"
        )
    try:
        creator = contexts.creatorForNetloc(uri.host, uri.port)
    except NotImplementedError as error:
        raise NotImplementedError(
            "https:// needs pyOpenSSL; write: pip install 'kolus[http]'"
        ) from error
    return wrapClientTLS(creator, endpoint)
