"""HTTP: a pool for Twisted's C{Agent}, and for treq, that has limits and lets requests wait.

Needs C{pip install 'kolus[http]'} for HTTPS; plain HTTP needs Twisted alone.
"""

from kolus.clients.http.exchange import BodyTimeout
from kolus.clients.http.pool import HTTPPool
from kolus.clients.http.tunnel import ProxyTunnels, TunnelRefused
from kolus.clients.http.upgrade import take_over

__all__ = ["BodyTimeout", "HTTPPool", "ProxyTunnels", "TunnelRefused", "take_over"]
