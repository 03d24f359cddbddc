"""Groups and lists of backends that can serve the same requests, and the choice among them.

This package knows managers, balancers and health. It knows nothing of the pool.
"""

from kolus.group.group import Group
from kolus.group.run import Run
from kolus.group.selector import Selector

__all__ = ["Group", "Run", "Selector"]
