"""C{take_moves}: which listening ports go from one listener to another in a reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kolus.daemon.listening.endpoint_string import bare_socket
from kolus.daemon.listening.place import address_place, place_of
from kolus.support import CannotListen

if TYPE_CHECKING:
    from kolus.daemon.front_service import FrontService, Listening

__all__ = ["Move", "take_moves"]


@dataclass(frozen=True, slots=True)
class Move:
    """A port that one listener gives to another.

    @ivar giver: the name of the listener that has the port.
    @ivar known: the server endpoint string that it has for it.
    @ivar taker: the name of the listener that goes on with it.
    @ivar wanted: the string that this one has for it.
    """

    giver: str
    known: str
    taker: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.wanted} goes from listener {self.giver} to listener {self.taker}"


def take_moves(
    listeners: Mapping[str, FrontService], listening: dict[str, list[Listening]]
) -> list[Move]:
    """Find the ports that listeners do not want any more, and others do.

    @param listeners: those that run, by their names.
    @param listening: the addresses that each listener is to have. Those that are moved are taken
        out of it.
    @raise CannotListen: an address is held in another way. New addresses are opened before old ones
        are closed, so it could not be opened.
    """
    wanted = {name: [each for each, _ in its] for name, its in listening.items()}
    free = [
        (bare_socket(known), name, known)
        for name, service in listeners.items()
        for known, _ in service.offers()
        if known not in wanted.get(name, ())
    ]
    moves = []
    for name, its in listening.items():
        held = [known for known, _ in listeners[name].offers()] if name in listeners else []
        for each in [each for each in its if each[0] not in held]:
            bare = bare_socket(each[0])
            found = next((one for one in free if bare is not None and one[0] == bare), None)
            if found is None:
                _check(name, each, listeners)
            else:
                free.remove(found)
                its.remove(each)
                moves.append(Move(found[1], found[2], name, each[0]))
    return moves


def _check(name: str, listening: Listening, listeners: Mapping[str, FrontService]) -> None:
    """
    @raise CannotListen: a listener has the address of a new port.
    """
    description, endpoint = listening
    place = place_of(endpoint)
    for holder, service in listeners.items():
        for known, port in service.offers():
            if place is not None and address_place(port.getHost()).meets(place):
                raise CannotListen(
                    f"listener {name} cannot listen on {description}: listener {holder} has "
                    f"{known}, and a reload keeps or moves an address only as it is. Write "
                    f"{known}; or restart; or take it out, reload, put it in again, and reload"
                )
