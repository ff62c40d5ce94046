"""What stands with a committed offset: which record was processed last, and up to where the state goes.

Pure. An offset is only a number: a log that has lost its end gives it again, to another record. So every commit notes
in the offset's metadata what the last record was, and the next owner of the lane looks whether it is still there.
Bounds of a replay stand there, too. Kafka's own reset tool writes no metadata, which ends all of it.
See docs/decisions/0021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline import masking
from pipeline.contract import explain
from pipeline.errors import ForeignOffset
from pipeline.last_read import Last, Offset
from processor import bounds
from processor.bounds import Bounds


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata of an offset.

    topic   id of the topic that the offset is of; empty where nothing is known of it
    last    None where nothing is known of it: an offset that was moved, or written by a former release
    bounds  of a replay that is not over
    logs    by table, how far its changelog went before the last transaction
    """

    v: Literal[2] = 2
    topic: Annotated[str, Meta(max_length=64)] = ""
    last: Last | None = None
    bounds: Bounds | None = None
    logs: Mapping[str, Offset] = {}


class _Version(msgspec.Struct):
    v: Literal[1, 2]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Mark).decode
_version = msgspec.json.Decoder(_Version).decode


def read(metadata: str) -> Mark:
    """The mark in a committed offset's metadata; a former release wrote bounds alone, or nothing.

    Raises ForeignOffset if somebody else left something there.
    """
    if not metadata:
        return Mark()
    try:
        if _version(metadata).v == 1:
            return Mark(bounds=bounds.read(metadata))
        return _decode(metadata)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise ForeignOffset(
            f"its metadata is none of postlog's ({explain(error)}): {masking.cut(metadata, 200)!r}"
        ) from None


def write(mark: Mark, end: int) -> str:
    """The metadata to commit with the offset `end`; bounds end where the replay does."""
    limits = mark.bounds if mark.bounds and end < mark.bounds.resume else None
    if mark.last is None and not mark.logs:
        return bounds.write(limits, end)
    return _encode(msgspec.structs.replace(mark, bounds=limits)).decode()


def newest(known: Last | None, found: Last | None) -> Last | None:
    """The one further on: what was processed before a replay went back is still to be there when it is over."""
    if known is None or found is None:
        return known or found
    return found if found.offset >= known.offset else known
