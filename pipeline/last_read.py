"""The record that was read last, and whether it still stands where it stood.

Pure. An offset is only a number: a log that has lost its end gives it again, to another record. So whoever goes on
from an offset notes what the last record was, and looks whether it is still there. See docs/decisions/0021.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.contract import Record

Offset = Annotated[int, Meta(ge=0)]


class Last(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record that was read, or processed, last.

    at      when Kafka took it, ms
    digest  of its key and value
    epoch   the leader epoch it was written in, or a lower one; -1 if unknown
    """

    offset: Offset
    at: int
    digest: Annotated[str, Meta(max_length=64)]
    epoch: int = -1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Last).decode


def last_of(record: Record, epoch: int) -> Last:
    """How to know a record again; epoch is the one it was written in, or lower."""
    digest = digest_of(record.key, record.value)
    return Last(offset=record.offset, at=record.timestamp, digest=digest, epoch=epoch)


def digest_of(key: bytes | None, value: bytes | None) -> str:
    """What stands for a record's key and value."""
    digest = blake2b(digest_size=8)
    for part in (key, value):
        digest.update(b"-" if part is None else b"%d:" % len(part) + part)
    return digest.hexdigest()


def same(last: Last, record: Record | None) -> bool:
    """Whether that record is the one; None is no record at all."""
    if record is None:
        return False
    found = last_of(record, last.epoch)
    return found == last


def replaced(last: Last | None, record: Record | None, *, first: int) -> str | None:
    """How the log contradicts what was read last; None if it does not, or nobody can know any more.

    record  what stands now where the last one stood, None if nothing does
    first   the oldest offset on the log: what retention has removed is not missed
    """
    if last is None or last.offset < first or same(last, record):
        return None
    there = "nothing" if record is None else "another record"
    return (
        f"{there} stands at offset {last.offset}, where the last processed record stood: "
        "the cluster has lost the end of the log, and gives its offsets again"
    )


def write(last: Last | None) -> str:
    """The metadata of an offset that carries nothing else."""
    return "" if last is None else _encode(last).decode()


def read(metadata: str) -> Last | None:
    """The same read back; None for nothing, and for what is none of ours."""
    try:
        return _decode(metadata)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None
