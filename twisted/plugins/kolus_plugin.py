"""Tells twistd of C{twistd kolus}."""

from twisted.application.service import ServiceMaker

kolus = ServiceMaker(
    "kolus",
    "kolus.daemon.tap",
    "A pool of connections to several backends, leased to TCP clients.",
    "kolus",
)
