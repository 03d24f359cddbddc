"""Redis: commands share a few pipelined connections of txredisapi; what must be alone, is.

Needs C{pip install 'kolus[redis]'}.
"""

try:
    import txredisapi  # noqa: F401
except ImportError as error:
    raise ImportError(
        "kolus.clients.redis needs txredisapi; write: pip install 'kolus[redis]'"
    ) from error

from kolus.clients.calls import WrongReply
from kolus.clients.redis.pool import RedisPool

__all__ = ["RedisPool", "WrongReply"]
