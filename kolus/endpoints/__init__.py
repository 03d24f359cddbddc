"""How a backend is reached: names and addresses.

It knows nothing of pools.
"""

from kolus.endpoints.named import NamedEndpoint

__all__ = ["NamedEndpoint"]
