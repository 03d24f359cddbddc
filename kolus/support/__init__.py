"""Small tools for every package: timers, checks of arguments, forks, tracebacks, descriptors.

They stand on the lowest floor and know nothing of pools.
"""

from kolus.support.alarm import Alarm
from kolus.support.checks import check_seconds, check_whole, is_duration
from kolus.support.descriptors import DescriptorWatch, soft_limit
from kolus.support.fork import after_fork
from kolus.support.frames import drop_frames, traceback_text
from kolus.support.quick import QuickDeferred, fire, fired, waiting
from kolus.support.stacks import place, stack
from kolus.support.step import Step

__all__ = [
    "Alarm",
    "DescriptorWatch",
    "QuickDeferred",
    "Step",
    "after_fork",
    "check_seconds",
    "check_whole",
    "drop_frames",
    "fire",
    "fired",
    "is_duration",
    "place",
    "soft_limit",
    "stack",
    "traceback_text",
    "waiting",
]
