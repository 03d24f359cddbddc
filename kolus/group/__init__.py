"""Groups and lists of backends that can serve the same requests, and the choice among them.

It knows the managers, balancers and health of the backends. It knows nothing of the pool.
"""

from kolus.group.group import Group
from kolus.group.groups import Groups
from kolus.group.selector import Selector

__all__ = ["Group", "Groups", "Selector"]
