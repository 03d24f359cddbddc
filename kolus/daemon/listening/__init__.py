"""Where the daemon listens: addresses, sockets of systemd or of another process, and a takeover."""

__all__ = ()
