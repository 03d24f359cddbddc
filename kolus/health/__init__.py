"""The health of a backend: failures, back-off, ejection, probes, slow start, and panic.

It decides whether balancers may choose a backend. Managers report what happens at the backend; this
package itself knows no connection and no manager.
"""

from kolus.health.attempts import CHECK_FAILED, LATE, USELESS, Attempts
from kolus.health.ejection import Ejection
from kolus.health.health import Health, Phase
from kolus.health.panic import Panic
from kolus.health.shortage import Shortage

__all__ = [
    "CHECK_FAILED",
    "LATE",
    "USELESS",
    "Attempts",
    "Ejection",
    "Health",
    "Panic",
    "Phase",
    "Shortage",
]
