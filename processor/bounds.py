"""What a replay is limited to: a part of the log, or the state alone.

Pure. The bounds stand in the metadata of the committed offset, and every commit carries them on until the position
that the group had before is reached again. So they survive whoever began the replay, another owner of the lane takes
them up with the offset, and Kafka's own reset tool, which writes no metadata, ends them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import msgspec

from pipeline import masking
from pipeline.contract import HEADER_ORIGIN, Record, explain, read_origin
from pipeline.errors import ForeignOffset, Undecodable
from pipeline.last_read import Offset

#: How records are processed: as always, without owing calls of handlers, or not at all since they were before.
Mode = Literal["whole", "silent", "skip"]


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of a replay of one partition.

    start     offset of the first record that is processed again; None if a former release began the replay
    until     offset of the first record that is not processed again
    resume    offset from which records were never processed, so that everything is as always; not before `until`
    handlers  whether handlers are called for what is processed again
    """

    v: Literal[1] = 1
    until: Offset
    resume: Offset
    handlers: bool = True
    start: Offset | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Bounds).decode


def read(metadata: str) -> Bounds | None:
    """The bounds in a committed offset's metadata, None if there is none.

    Raises ForeignOffset if somebody else left something there.
    """
    if not metadata:
        return None
    try:
        return _decode(metadata)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise ForeignOffset(
            f"its metadata is none of postlog's ({explain(error)}): {masking.cut(metadata, 200)!r}"
        ) from None


def write(bounds: Bounds | None, end: int) -> str:
    """The metadata to commit with the offset `end`: nothing once the replay is over."""
    return "" if bounds is None or end >= bounds.resume else _encode(bounds).decode()


def repeats(record: Record, partition: int, bounds: Bounds | None) -> bool:
    """Whether this is a copy of a record that the replay processes, too: what becomes of that one says it all."""
    origin = dict(record.headers).get(HEADER_ORIGIN)
    if origin is None or bounds is None or bounds.start is None or record.offset >= bounds.until:
        return False
    try:
        stood, first = read_origin(origin)
    except Undecodable:
        return False
    return stood == partition and bounds.start <= first.offset < record.offset


def parts(records: Sequence[Record], bounds: Bounds | None) -> list[tuple[Sequence[Record], Mode]]:
    """Records cut at the bounds, in order, and what is done with each part; no part is empty."""
    if not records:
        return []
    if bounds is None or records[0].offset >= bounds.resume:
        return [(records, "whole")]
    until, resume = (
        bisect_left(records, offset, key=lambda record: record.offset) for offset in (bounds.until, bounds.resume)
    )
    cut: list[tuple[Sequence[Record], Mode]] = [
        (records[:until], "whole" if bounds.handlers else "silent"),
        (records[until:resume], "skip"),
        (records[resume:], "whole"),
    ]
    return [(part, mode) for part, mode in cut if part]
