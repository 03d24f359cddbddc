"""Small tools for every package: timers, awaitables, checks of arguments, forks, tracebacks.

They are on the lowest layer, and know nothing of pools.
"""

from kolus.support.addresses import host_and_port, socket_address
from kolus.support.alarm import Alarm
from kolus.support.awaitables import call, check_done, comes_later
from kolus.support.checks import (
    check_duration,
    check_flag,
    check_seconds,
    check_whole,
    check_word,
    did_you_mean,
    nearest,
)
from kolus.support.descriptors import DescriptorWatch, soft_limit
from kolus.support.fork import after_fork
from kolus.support.frames import causes, drop_frames, traceback_text
from kolus.support.histogram import LONG, SHORT, Histogram
from kolus.support.in_block import InBlock
from kolus.support.lazy_heap import LazyHeap
from kolus.support.listening import CannotListen, why_not_listening
from kolus.support.long_work import LongWork, Work, at_once
from kolus.support.port_user import port_user
from kolus.support.quick import (
    QuickDeferred,
    failed,
    fire,
    fired,
    following,
    has_callbacks,
    waiting,
)
from kolus.support.signatures import fewest_arguments, name_of
from kolus.support.stacks import place, place_of_mistake, stack
from kolus.support.steady import SteadyClock, steady, steady_seconds, time_of_day
from kolus.support.step import Step
from kolus.support.transports import abort

__all__ = [
    "LONG",
    "SHORT",
    "Alarm",
    "CannotListen",
    "DescriptorWatch",
    "Histogram",
    "InBlock",
    "LazyHeap",
    "LongWork",
    "QuickDeferred",
    "SteadyClock",
    "Step",
    "Work",
    "abort",
    "after_fork",
    "at_once",
    "call",
    "causes",
    "check_done",
    "check_duration",
    "check_flag",
    "check_seconds",
    "check_whole",
    "check_word",
    "comes_later",
    "did_you_mean",
    "drop_frames",
    "failed",
    "fewest_arguments",
    "fire",
    "fired",
    "following",
    "has_callbacks",
    "host_and_port",
    "name_of",
    "nearest",
    "place",
    "place_of_mistake",
    "port_user",
    "socket_address",
    "soft_limit",
    "stack",
    "steady",
    "steady_seconds",
    "time_of_day",
    "traceback_text",
    "waiting",
    "why_not_listening",
]
