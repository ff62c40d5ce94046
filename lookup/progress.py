"""How far the local list has followed the log, and whether it can go on from there.

Pure: follower.py asks Kafka, store.py keeps the progress with the rows. What always holds: rows that are continued
lack no deletion. A compacted log forgets records, tombstones among them, so a position alone is not enough:
the log must still be the one that was read, and no tombstone may have come and gone meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

#: A tombstone is kept for `delete.retention.ms` at least. Half of that counts: reading what we lack takes time too.
TOMBSTONE_MARGIN = 2
#: How much newer than all we have read, in ms, a record that we should have read must be to betray another log.
#: Commit markers carry the broker's clock, and may be a little newer than the record behind them. More slack would
#: only overlook a topic that is deleted, made anew and filled within it; with less a list would be rebuilt in vain.
CLOCK_SLACK = 250


class Place(msgspec.Struct, frozen=True, gc=False):
    """How far one partition was read.

    next    offset behind the last record that was applied
    newest  highest timestamp of a record that was applied, ms
    """

    next: int
    newest: int


class Progress(msgspec.Struct, frozen=True):
    """How far the topic was read; a partition without a place has not given a record yet.

    as_of  ms: the latest moment of which we know that everything the log held then was applied, or, before
           that was ever so, the moment at which reading began
    """

    as_of: int
    places: dict[int, Place]


class Extent(msgspec.Struct, frozen=True):
    """What the log holds of one partition now.

    beginning  its first offset
    end        the offset behind its last committed record
    newer      first offset of a record newer than our place's `newest` and the slack, None if there is none
    """

    beginning: int
    end: int
    newer: int | None


class Again(msgspec.Struct, frozen=True):
    """The list is to be read from the beginning.

    lost  the log may have lost what we hold: it lost its end, or was made anew
    """

    reason: str
    lost: bool = False


class Goal(msgspec.Struct, frozen=True):
    """Where the log ended, by partition, at a moment (ms)."""

    at: int
    ends: Mapping[int, int]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Progress)


def encode(progress: Progress) -> bytes:
    """Progress as the store keeps it."""
    return _encoder.encode(progress)


def decode(value: bytes | None) -> Progress | None:
    """Progress that the store kept; None if there is none or another version wrote it: then we start over."""
    try:
        return None if value is None else _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def advanced(place: Place | None, offset: int, timestamps: Iterable[int]) -> Place:
    """The place after applying records with these timestamps, the last of them at this offset."""
    return Place(offset + 1, max(timestamps, default=0) if place is None else max(place.newest, *timestamps))


def newer_than(place: Place) -> int:
    """The timestamp to ask the log for: whatever is as new belongs behind our place."""
    return place.newest + CLOCK_SLACK + 1


def why_start_over(
    progress: Progress | None, log: Mapping[int, Extent], *, now: int, tombstones_last: int
) -> Again | None:
    """Why the rows we hold cannot be continued from this log, or None if they can.

    now              ms
    tombstones_last  ms for which the topic keeps a tombstone at least (`delete.retention.ms`)
    """
    if progress is None:
        return Again("there is no local list yet")
    # What the log may have lost goes first: rows that are thrown away would be answered "not suppressed".
    for partition, place in sorted(progress.places.items()):
        if reason := _lost(partition, place, log.get(partition)):
            return Again(reason, lost=True)
    if abs(now - progress.as_of) * TOMBSTONE_MARGIN > tombstones_last:
        return Again(f"last complete {abs(now - progress.as_of) // 1000} s ago; tombstones since may be gone")
    for partition, place in sorted(progress.places.items()):
        if place.next < log[partition].beginning:
            return Again(f"partition {partition} begins at {log[partition].beginning}, we stand at {place.next}")
    return None


def _lost(partition: int, place: Place, extent: Extent | None) -> str | None:
    if extent is None:
        return f"partition {partition} is gone"
    if place.next > extent.end:
        return f"partition {partition} ends at {extent.end}, we stand at {place.next}"
    if extent.newer is not None and extent.newer < place.next:
        # Of our own log we have read everything below our place, so nothing there can be newer than all we have read.
        return f"partition {partition} holds another record at {extent.newer} than we read there"
    return None


def lost(topic: str, claims: int, most: int, folder: str) -> str:
    """That the topic lacks what the list knew, and what to do; `claims` addresses, or more if there are `most`."""
    count = f"{claims} or more" if claims == most else str(claims)
    return (
        f"{topic} lost its end, or was made anew: {count} addresses that were suppressed are not suppressed on it. "
        "Nothing is answered until it says so again. Type postlog state write-back where a stopped processor has its "
        "STATE_DIR; if no processor has a copy, postlog replay --rebuild. If you accept the loss, stop this lookup, "
        f"delete {folder}, and start it again"
    )


def reached(goal: Goal, positions: Mapping[int, int]) -> bool:
    """Was everything read that the log held at the goal?

    By positions, not by records: a log may end in control records, which no consumer is ever given.
    """
    return all(positions[partition] >= end for partition, end in goal.ends.items())


def lag(ends: Mapping[int, int], positions: Mapping[int, int]) -> int:
    """Offsets between us and the end of the log."""
    return sum(max(0, end - positions[partition]) for partition, end in ends.items())


def stalled(*, lag: int, in_sight: bool, idle: float, limit: float) -> bool:
    """Is the log ahead of us, and we have not moved for more than `limit` seconds?

    While Kafka is out of sight nobody can move: a restart would not help, and end the answers.
    """
    return in_sight and lag > 0 and idle > limit
