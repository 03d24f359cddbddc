"""C{twistd kolus}: its options, the services that they describe, and the demo."""

__all__ = ()
