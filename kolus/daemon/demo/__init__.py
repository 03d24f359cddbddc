"""C{twistd kolus --demo}: three backends, callers and a table, all inside one process."""

__all__ = ()
