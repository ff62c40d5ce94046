"""Who may bring a large body now: the bytes of all bodies that nobody has verified yet stay within one budget.

Pure. Who needs room asks for as much as his request may take, and waits while there is not enough. Who delivered
something authentic before (`known`) is first, and the oldest of the others makes room for him. While somebody waits,
whoever sends next to nothing loses his room: slow senders get through, those that only hold it do not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)

#: Who has room and sends less than this share of its size from one look to the next is stalled.
SLOWEST = 0.05


@dataclass(slots=True)
class _Place:
    """received  bytes at the last look, None if there was none yet"""

    size: int
    known: bool
    received: int | None = None


class Room(Generic[Who]):
    """Places of known size within a budget of bytes."""

    def __init__(self, most: int) -> None:
        """most  bytes of all places together"""
        self._free = most
        # Dictionaries for their order: the oldest is the first.
        self._inside: dict[Who, _Place] = {}
        self._known: dict[Who, _Place] = {}
        self._others: dict[Who, _Place] = {}

    def ask(self, who: Who, size: int, *, known: bool) -> None:
        """A place for so many bytes; `enter` says when he has it. Nothing changes if he has one or waits for one."""
        if not (self.has(who) or self.waits(who)):
            (self._known if known else self._others)[who] = _Place(size, known)

    def has(self, who: Who) -> bool:
        """Whether he has room."""
        return who in self._inside

    def waits(self, who: Who) -> bool:
        """Whether he waits for it."""
        return who in self._known or who in self._others

    def leave(self, who: Who) -> bool:
        """He needs no room any more. True if he had some, or waited for it."""
        if place := self._inside.pop(who, None):
            self._free += place.size
            return True
        return (self._known.pop(who, None) or self._others.pop(who, None)) is not None

    def enter(self) -> list[Who]:
        """Those that waited and have room from now on; in turn, so that a large one is not overtaken for ever."""
        came: list[Who] = []
        for queue in (self._known, self._others):
            while queue:
                who, place = next(iter(queue.items()))
                if place.size > self._free:
                    return came
                del queue[who]
                self._free -= place.size
                self._inside[who] = place
                came.append(who)
        return came

    def in_the_way(self) -> Who | None:
        """Who has to go because somebody known waits: the oldest that is not known; None if nobody has to."""
        if not self._known:
            return None
        return next((who for who, place in self._inside.items() if not place.known), None)

    def anybody_waits(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._known or self._others)

    def stalled(self, received: Callable[[Who], int]) -> list[Who]:
        """Those with room that sent next to nothing since the last look: the unknown first, then the oldest.

        received  how many bytes of his request have come
        """
        found: list[Who] = []
        known: list[Who] = []
        for who, place in self._inside.items():
            now = received(who)
            if place.received is not None and now - place.received < place.size * SLOWEST:
                (known if place.known else found).append(who)
            place.received = now
        return found + known
