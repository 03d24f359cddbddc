"""Whether a backend is to be chosen: failures and back-off, ejection, panic.

It is told what happens at a backend, and knows no connection and no manager.
"""

from kolus.health.attempts import Attempts
from kolus.health.ejection import Ejection
from kolus.health.health import Health, Phase
from kolus.health.panic import Panic

__all__ = ["Attempts", "Ejection", "Health", "Panic", "Phase"]
