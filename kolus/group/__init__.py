"""Several backends that can serve the same requests: groups, lists, and the choice among them.

It stands on the managers, and knows nothing of the pool that they are of.
"""

from kolus.group.group import Group, GroupStatus
from kolus.group.groups import Groups
from kolus.group.selector import Selector

__all__ = ["Group", "GroupStatus", "Groups", "Selector"]
