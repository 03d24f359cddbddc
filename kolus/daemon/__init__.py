"""The command C{twistd kolus}: its options, the services that it runs, and the demo.

This is the top of the house: it may use the pool, the sources and the tunnel, and nothing uses it
but the plugin. Only this package may import the global reactor.
"""

__all__ = ()
