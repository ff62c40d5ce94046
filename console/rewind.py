"""Where a group's offsets go when events are processed again, and what that means for every partition.

Pure: values in, values out; `console.group` reads and writes the offsets. What always holds: every partition has an
answer, no answer lies outside the log, and a partition whose events would be skipped is named as such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from pipeline.errors import PostlogError
from pipeline.last_read import Last
from processor import marks
from processor.bounds import Bounds
from processor.marks import Mark

_DURATION = re.compile(r"(?:\d+[smhdw])+")
_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of the events topic as it is: the log is [beginning, end), committed is None if nothing is.

    bounds  of a replay that is not over
    last    the record that was processed last, if that is known
    topic   id of the topic that the offset is of, if that is known
    """

    number: int
    beginning: int
    end: int
    committed: int | None
    bounds: Bounds | None = None
    last: Last | None = None
    topic: str = ""

    @property
    def processed(self) -> int:
        """Where processing was before any replay that is not over: from here on nothing was ever processed."""
        at = self.beginning if self.committed is None else self.committed
        return max(at, self.bounds.resume) if self.bounds else at


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one partition.

    committed  where the group is: a group that never committed is at the beginning
    new        where it goes; the same if nothing is to be done
    again      events that are processed again
    skipped    events that nobody has processed and nobody will: they lie between, or have expired
    gone       events before the beginning, which retention has removed, if they were asked for
    passed     events that were processed before and are not again, because the replay ends before them
    metadata   what is committed with the new offset: the bounds, if there are any
    written    whether the offset is written although it stays: nothing was committed, or what stands with it is to go
    """

    partition: int
    committed: int
    new: int
    end: int
    again: int
    skipped: int
    gone: int
    passed: int = 0
    metadata: str = ""
    written: bool = False


def bounded(
    moves: Sequence[Move], partitions: Sequence[Partition], until: Mapping[int, int | None] | None, *, handlers: bool
) -> list[Move]:
    """The same moves, but no event from `until` on is processed again, and handlers are called or not.

    until  by partition, None where no event arrived that late; None for all: up to where the group was
    """
    by_number = {p.number: p for p in partitions}
    return [
        move if move.new == move.committed else _bounded(move, by_number[move.partition], until, handlers=handlers)
        for move in moves
    ]


def _bounded(move: Move, p: Partition, until: Mapping[int, int | None] | None, *, handlers: bool) -> Move:
    found = None if until is None else until.get(p.number)
    end = p.processed if found is None else min(found, p.processed)
    if end <= move.new:
        return _stay(p)
    limits = Bounds(start=move.new, until=end, resume=p.processed, handlers=handlers)
    # What was processed last stays known: what comes after it when this is over must be new.
    noted = marks.write(Mark(topic=p.topic, bounds=limits, last=p.last), move.new)
    metadata = noted if end < p.processed or not handlers else move.metadata
    return msgspec.structs.replace(move, again=end - move.new, passed=p.processed - end, metadata=metadata)


def moment(text: str, now: int) -> int:
    """A time in ms: `2h`, `3d12h` before now (ms), `2026-01-31`, or RFC 3339; in UTC unless it says otherwise.

    Raises PostlogError saying what is allowed.
    """
    if _DURATION.fullmatch(text):
        ago = sum(int(number) * _MS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", text))
        return max(now - ago, 0)
    try:
        given = datetime.fromisoformat(text)
        return max(int((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        raise PostlogError(
            f"{text!r} is no time: give a duration back from now like 2h or 3d, a day like 2026-01-31, "
            "or RFC 3339 like 2026-01-31T08:00:00Z"
        ) from None


def offset(text: str) -> tuple[int, int]:
    """Partition and offset in `P:O`. Raises PostlogError."""
    found = re.fullmatch(r"(\d{1,9}):(\d{1,18})", text, re.ASCII)
    if not found:
        raise PostlogError(f"{text!r} is not PARTITION:OFFSET, like 3:1200")
    return int(found[1]), int(found[2])


def to_beginning(partitions: Sequence[Partition]) -> list[Move]:
    """Everything that is still on the log."""
    return [_move(p, p.beginning, gone=p.beginning) for p in partitions]


def to_times(partitions: Sequence[Partition], found: Mapping[int, int | None]) -> list[Move]:
    """The first record that arrived at the time or later, by partition; None where there is none: nothing to do."""
    moves = []
    for p in partitions:
        new = found.get(p.number)
        if new is None:
            moves.append(_stay(p))
        else:
            moves.append(_move(p, new, gone=p.beginning if new <= p.beginning else 0))
    return moves


def to_offsets(partitions: Sequence[Partition], wanted: Sequence[tuple[int, int]]) -> list[Move]:
    """These offsets; partitions that are not named stay.

    Raises PostlogError for a partition that does not exist or is named twice, and an offset past the end.
    """
    by_number = {p.number: p for p in partitions}
    asked: dict[int, int] = {}
    for number, new in wanted:
        if number not in by_number:
            raise PostlogError(f"{number}:{new}: there is no partition {number}, they are 0 to {max(by_number)}")
        if number in asked:
            raise PostlogError(f"{number}:{new}: partition {number} is named twice")
        if new > by_number[number].end:
            raise PostlogError(f"{number}:{new}: the log of partition {number} ends at {by_number[number].end}")
        asked[number] = new
    return [
        _move(p, asked[p.number], gone=max(p.beginning - asked[p.number], 0)) if p.number in asked else _stay(p)
        for p in partitions
    ]


def after_loss(partitions: Sequence[Partition], found: Mapping[int, int]) -> list[Move]:
    """Behind what is lost: every partition goes on with the first record on its log that was never processed.

    found  by partition whose log contradicts its offset, the first offset on it that is not yet processed
    """
    return [
        msgspec.structs.replace(_move(p, found[p.number], gone=0), again=0, written=True, metadata="")
        if p.number in found
        # How far changelogs went is forgotten: one that has lost its end is accepted as it is.
        else _stay(p, written=True, metadata=_without_logs(p))
        for p in partitions
    ]


def _without_logs(p: Partition) -> str:
    return marks.write(Mark(topic=p.topic, bounds=p.bounds, last=p.last), p.committed or 0)


def offsets(moves: Sequence[Move]) -> dict[int, tuple[int, int]]:
    """(from, to) of the partitions to write. Unlike a log's end it stays the same while events arrive."""
    return {
        move.partition: (move.committed, move.new) for move in moves if move.written or move.new != move.committed
    }


def refusal(moves: Sequence[Move]) -> str | None:
    """Why these moves need the operator's explicit word, None if they do not."""
    skipping = [move for move in moves if move.skipped]
    if not skipping:
        return None
    listed = ", ".join(f"{m.partition} ({m.committed} to {m.new - 1})" for m in skipping)
    return (
        f"{sum(m.skipped for m in skipping)} events would never be processed, because the new offset is past the "
        f"committed one in partition {listed}. Start from an earlier time, or accept it with --skip-unprocessed"
    )


def way_back(moves: Sequence[Move]) -> list[str]:
    """The arguments of `postlog` that put the group back to where it was; empty if nothing moves."""
    moved = offsets(moves)
    if not moved:
        return []
    options = [option for number, (was, _) in moved.items() for option in ("--from-offset", f"{number}:{was}")]
    # What lies between was processed before, so that skipping it then loses nothing.
    forward = ["--skip-unprocessed"] if any(new < was for was, new in moved.values()) else []
    return ["replay", *options, *forward]


def _stay(p: Partition, *, written: bool = False, metadata: str = "") -> Move:
    at = p.beginning if p.committed is None else p.committed
    return Move(
        partition=p.number,
        committed=at,
        new=at,
        end=p.end,
        again=0,
        skipped=0,
        gone=0,
        written=written,
        metadata=metadata,
    )


def _move(p: Partition, wanted: int, *, gone: int) -> Move:
    at = p.beginning if p.committed is None else p.committed
    new = max(wanted, p.beginning)
    # How far it goes is noted: a copy that was sent round in between makes no dead letter beside its original's. What
    # was processed last is forgotten, since whoever moves a group may do so because it is lost.
    upto = min(p.processed, p.end)
    limits = Bounds(start=new, until=upto, resume=upto) if new < upto else None
    return Move(
        partition=p.number,
        committed=at,
        new=new,
        end=p.end,
        again=max(p.processed - new, 0),
        skipped=max(new - p.processed, 0),
        gone=gone,
        metadata=marks.write(Mark(bounds=limits), new),
        written=p.committed is None,
    )
