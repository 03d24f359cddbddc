"""The TLS settings of a listener and of a group's backends. They are frozen, and checked when made.

That the files exist is checked when they are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from kolus.support import check_flag, check_word

__all__ = ["BackendTLS", "ListenerTLS", "TLSVersion"]

TLSVersion = Literal["1.2", "1.3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTLS:
    """The TLS of a listener: it ends here, and the backend gets the bytes within.

    @ivar certificates: a folder, or files. Each file is PEM and has a private key, its certificate
        and the chain. In a folder the name of a file is the server name that it is for:
        C{shop.example.pem}; C{_.shop.example.pem} is for every name directly below shop.example;
        C{default.pem} is for all other names, and for clients that tell none. Of files the first is
        for all names that are in no other file's certificate.
    @ivar client_ca: a file with the certificates of the authorities that sign clients'
        certificates; a client without one is then refused. C{None}: clients are not asked for one.
    @ivar minimum_version: the oldest version of TLS that is spoken: older than 1.2 is broken, and
        1.2 is still spoken by clients of all ages.
    """

    certificates: tuple[str, ...]
    client_ca: str | None = None
    minimum_version: TLSVersion = "1.2"

    def __post_init__(self) -> None:
        """
        @raise ValueError: a setting has a wrong value; the message begins with the setting's name.
        """
        if not isinstance(self.certificates, tuple):
            raise ValueError(
                f"certificates must be a tuple of file names, not {self.certificates!r}"
            )
        for each in self.certificates:
            if not (isinstance(each, str) and each):
                raise ValueError(f"certificates must have names of files, not {each!r}")
        if not self.certificates:
            raise ValueError(
                "certificates must name a folder or a file: a TLS listener needs certificates"
            )
        if self.client_ca is not None and not (isinstance(self.client_ca, str) and self.client_ca):
            raise ValueError(f"client_ca must be the name of a file, not {self.client_ca!r}")
        check_word("minimum_version", self.minimum_version, get_args(TLSVersion))


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendTLS:
    """The TLS of the connections to backends that are given as C{tcp:HOST:PORT}.

    @ivar verify: whether the backend's certificate has to be signed by a known authority, and to be
        for its name. C{False}: whoever answers is believed.
    @ivar ca: a PEM file with the certificates of the only authorities that are trusted. C{None}:
        those that the machine trusts.
    @ivar server_name: the name that is told to the backend (SNI), and that its certificate has to
        be for. C{None}: the host of each backend.
    @ivar certificate: a PEM file with the client certificate and its chain, for backends that ask
        for one. C{None}: none is shown.
    @ivar key: a PEM file with the private key of C{certificate}. C{None}: it is in the same file.
    """

    verify: bool = True
    ca: str | None = None
    server_name: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """
        @raise ValueError: a setting has a wrong value, or two contradict each other; the message
            begins with the setting's name.
        """
        check_flag("verify", self.verify, ValueError)
        for name in ("ca", "server_name", "certificate", "key"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                what = "a name" if name == "server_name" else "the name of a file"
                raise ValueError(f"{name} must be {what}, not {value!r}")
        if self.server_name is not None and not _is_name(self.server_name):
            raise ValueError(f"server_name must be a name, not {self.server_name!r}")
        if self.ca is not None and not self.verify:
            raise ValueError("ca says whom to trust, but verify is false: leave out one of them")
        if self.key is not None and self.certificate is None:
            raise ValueError("key needs a certificate: give the file of the certificate, too")


def _is_name(text: str) -> bool:
    """Whether it can be the name of a host."""
    try:
        return not re.search(r"[\s/@]", text) and bool(text.encode("idna"))
    except UnicodeError:
        return False
