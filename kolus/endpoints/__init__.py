"""The endpoint for backends with host names: resolves a name and connects to its addresses.

It knows errors and nothing else of kolus: no backend and no pool.
"""

from kolus.endpoints.named import NamedEndpoint

__all__ = ["NamedEndpoint"]
