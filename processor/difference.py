"""How a state that was worked out anew differs from the one that processors work with.

Pure. What always holds: writing the difference over the one state leaves the other, and nothing else is written.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby
from operator import itemgetter

import msgspec

from pipeline import suppression
from pipeline.errors import Undecodable

Row = tuple[bytes, bytes]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild changes in one partition.

    entries     of the list that differ; released, addresses that could not be mailed and can be then; suppressed, the
                other way round
    markers     of duplicates that differ
    unreadable  entries of the former list that are none
    former      entries under a key that an earlier release gave their address, which go into those of today
    nobodys     entries whose key is no address any more, which stay
    """

    entries: int = 0
    released: int = 0
    suppressed: int = 0
    markers: int = 0
    unreadable: int = 0
    former: int = 0
    nobodys: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


@dataclass(slots=True)
class Difference:
    """Rows to write, None where one is to go, by changelog key.

    former  keys of the list that are to go once what they say is written under others
    """

    suppressions: dict[bytes, bytes | None] = field(default_factory=dict)
    seen: dict[bytes, bytes | None] = field(default_factory=dict)
    former: list[bytes] = field(default_factory=list)


def changed(was: Iterable[Row], now: Iterable[Row]) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """(key, former value, new value) of what differs; both in the order of keys, None where there is no row."""
    sides = (((key, "was", value) for key, value in was), ((key, "now", value) for key, value in now))
    tagged = merge(*sides, key=itemgetter(0))
    for key, several in groupby(tagged, key=itemgetter(0)):
        values = {side: value for _, side, value in several}
        if values.get("was") != values.get("now"):
            yield key, values.get("was"), values.get("now")


def of_lists(
    was: Iterable[Row], now: Iterable[Row], gone: Container[bytes] = ()
) -> tuple[dict[bytes, bytes | None], list[bytes], Counts]:
    """The entries of the list to write, the keys that are to go after that, and what the entries change.

    gone  former keys: what they say stands under another key of the new list
    """
    rows: dict[bytes, bytes | None] = {}
    dropped: list[bytes] = []
    released = suppressed = unreadable = 0
    for key, former, new in changed(was, now):
        if new is None and key in gone:
            dropped.append(key)
            continue
        rows[key] = new
        stood, stands = _suppressed(former), _suppressed(new)
        unreadable += stood is None
        released += bool(stood) and not stands
        suppressed += bool(stands) and not stood
    counts = Counts(
        entries=len(rows), released=released, suppressed=suppressed, unreadable=unreadable, former=len(dropped)
    )
    return rows, dropped, counts


def _suppressed(value: bytes | None) -> bool | None:
    """Whether the address cannot be mailed; None if nobody can read the entry."""
    try:
        return value is not None and suppression.decode(value).suppressed
    except Undecodable:
        return None
