"""What a copy of a lane's state knows and the changelogs, which it is a copy of, do not know any more.

Pure. Writing that back takes nothing away from what the changelogs say: facts about an address are joined, a marker
that is missing is put back, and a call is owed again that was never noted as done. Incidents are not looked at:
processors write what is wrong now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from pipeline import suppression
from pipeline.errors import Undecodable
from pipeline.suppression import Suppression
from processor import suppressions
from processor.difference import Row, changed


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What is written back.

    entries     of the list
    suppressed  addresses that the topic lets be mailed, and that cannot be mailed afterwards
    markers     of duplicates
    calls       of handlers that are owed
    """

    entries: int = 0
    suppressed: int = 0
    markers: int = 0
    calls: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Rows that the changelogs lack, by table."""

    suppressions: dict[bytes, bytes] = field(default_factory=dict)
    seen: dict[bytes, bytes] = field(default_factory=dict)
    calls: dict[bytes, bytes] = field(default_factory=dict)
    suppressed: int = 0

    @property
    def counts(self) -> Counts:
        """How many there are."""
        return Counts(
            entries=len(self.suppressions), suppressed=self.suppressed, markers=len(self.seen), calls=len(self.calls)
        )


def of_lists(log: Iterable[Row], copy: Iterable[Row]) -> Iterator[tuple[bytes, bytes, bool]]:
    """(address, entry to write, whether it suppresses what the topic lets be mailed), in the order of addresses."""
    for key, there, known in changed(log, copy):
        joined = None if known is None else _joined(there, known)
        if joined is not None:
            yield key, joined, _suppresses(joined) and not (there and _suppresses(there))


def missing(log: Iterable[Row], copy: Iterable[Row], *, floor: bytes = b"") -> Iterator[Row]:
    """Rows of the copy from a key on that the log has no row for."""
    for key, there, known in changed(log, copy):
        if there is None and known is not None and key >= floor:
            yield key, known


def _joined(there: bytes | None, known: bytes) -> bytes | None:
    """The entry that holds what both know; None if the topic's entry does already."""
    if there is None:
        return known
    try:
        old = suppression.decode(known)
    except Undecodable:
        return None
    try:
        new = suppression.decode(there)
    except Undecodable:
        return known
    facts = suppressions.join(new.facts, old.facts)
    return None if facts == new.facts else suppression.encode(Suppression.of(new.email, facts))


def _suppresses(entry: bytes) -> bool:
    try:
        return suppression.decode(entry).suppressed
    except Undecodable:
        # Nobody could mail the address: lookup answers with an error.
        return True
