"""Small tools for every package: timers, awaitables, checks of arguments, forks, tracebacks.

They stand on the lowest floor and know nothing of pools.
"""

from kolus.support.alarm import Alarm
from kolus.support.awaitables import call
from kolus.support.checks import check_flag, check_seconds, check_whole, is_duration
from kolus.support.descriptors import DescriptorWatch, soft_limit
from kolus.support.fork import after_fork
from kolus.support.frames import drop_frames, traceback_text
from kolus.support.histogram import LONG, SHORT, Histogram
from kolus.support.in_block import InBlock
from kolus.support.lazy_heap import LazyHeap
from kolus.support.listening import CannotListen, why_not_listening
from kolus.support.port_user import port_user
from kolus.support.quick import QuickDeferred, failed, fire, fired, following, waiting
from kolus.support.secrets import hide_secrets
from kolus.support.signatures import fewest_arguments, name_of
from kolus.support.stacks import place, place_of_mistake, stack
from kolus.support.steady import SteadyClock, steady, steady_seconds, time_of_day
from kolus.support.step import Step

__all__ = [
    "LONG",
    "SHORT",
    "Alarm",
    "CannotListen",
    "DescriptorWatch",
    "Histogram",
    "InBlock",
    "LazyHeap",
    "QuickDeferred",
    "SteadyClock",
    "Step",
    "after_fork",
    "call",
    "check_flag",
    "check_seconds",
    "check_whole",
    "drop_frames",
    "failed",
    "fewest_arguments",
    "fire",
    "fired",
    "following",
    "hide_secrets",
    "is_duration",
    "name_of",
    "place",
    "place_of_mistake",
    "port_user",
    "soft_limit",
    "stack",
    "steady",
    "steady_seconds",
    "time_of_day",
    "traceback_text",
    "waiting",
    "why_not_listening",
]
