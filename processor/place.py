"""How far a local copy has read one of its changelogs, and whether it may go on from there.

Pure. A position alone is not enough. A log may have lost its end, or be a new one under the same name, and have
grown beyond the position again; so the record that was read last is noted with it. And a compacted log forgets
deletions, so a copy that was away for too long would keep what is gone.
What always holds: a copy that may know more than the log is never taken for a stale one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from pipeline import last_read
from pipeline.contract import Record
from pipeline.last_read import Last

#: Half of the time for which a tombstone is kept counts: reading what is missing takes time, too.
TOMBSTONE_MARGIN = 2


class Place(msgspec.Struct, frozen=True):
    """Where a copy stands in a changelog.

    next  offset behind the last one that was read
    last  the last record that was read; None if there was none
    """

    next: int
    last: Last | None = None


class Fit(enum.Enum):
    """What a copy is to the log that it should go on from."""

    CONTINUES = "read on from the place"
    STALE = "the log has gone on without it for too long: begin anew, the log has everything"
    SUSPECT = "it may know what the log does not know any more: keep it, and compare"


class Found(NamedTuple):
    """A verdict, with the reason for all but CONTINUES."""

    fit: Fit
    reason: str = ""


class Extent(NamedTuple):
    """What the log holds of a partition now.

    first, end  its first offset, and the one behind its last committed record
    there       the record where the copy's last one stood; None if nothing is there, or it was not looked for
    """

    first: int
    end: int
    there: Record | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Place).decode


def encode(place: Place) -> bytes:
    """A place as the store keeps it."""
    return _encode(place)


def decode(value: bytes) -> tuple[Place, bool]:
    """A place that the store kept, and whether a former release wrote it: then it is an offset and nothing else."""
    return (Place(int(value)), True) if value.isdigit() else (_decode(value), False)


def after(records: Sequence[Record]) -> Place:
    """The place behind records that were read; not empty."""
    return Place(records[-1].offset + 1, last_read.last_of(records[-1], -1))


def judge(place: Place, log: Extent, *, former: bool, now: int, tombstones_last: int | None) -> Found:
    """Whether a copy may go on from its place.

    former           a former release wrote the place
    now              ms
    tombstones_last  how long the log keeps a deletion at least, ms; None if it is not compacted
    """
    if place.next > log.end:
        return Found(Fit.SUSPECT, f"the log ends at {log.end}, and the copy has read up to {place.next}")
    if place.next < log.first:
        return Found(Fit.STALE, f"the log begins at {log.first}, and the copy has read up to {place.next}")
    aged = tombstones_last is not None and _aged(place, former, now, tombstones_last)
    if place.last is not None and place.last.offset >= log.first and not last_read.same(place.last, log.there):
        if log.there is not None or not aged:
            there = "nothing" if log.there is None else "another record"
            return Found(
                Fit.SUSPECT, f"{there} stands at offset {place.last.offset}, where the copy read its last one"
            )
        return Found(Fit.STALE, "it is older than deletions are kept")
    # The last offset of a log is never compacted away, and the end of a transaction has one of its own.
    if aged and log.end - place.next > 1:
        return Found(Fit.STALE, "it is older than deletions are kept")
    return Found(Fit.CONTINUES)


def _aged(place: Place, former: bool, now: int, tombstones_last: int) -> bool:
    """Whether deletions may have come and gone since the last record that was read."""
    if place.last is None:
        # A copy that read nothing holds nothing that could have been deleted.
        return former
    return abs(now - place.last.at) * TOMBSTONE_MARGIN > tombstones_last


def worst(found: Mapping[str, Found]) -> tuple[Fit, str]:
    """Of a copy with several changelogs, by partition: to keep it goes before all else. The reason names them."""
    for fit in (Fit.SUSPECT, Fit.STALE):
        if reasons := [f"{name}: {each.reason}" for name, each in found.items() if each.fit is fit]:
            return fit, "; ".join(reasons)
    return Fit.CONTINUES, ""
