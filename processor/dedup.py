"""Is this record the event's first, that same record again, or a duplicate of it?

Pure. Identity is a place in the log: a marker says where (offset) and when (arrival, ms) an event was first
seen, never just "seen". So the answer depends on the log alone, and a consumer group whose offsets were moved
back reprocesses exactly the originals and still drops the duplicates.

Markers live in buckets one window long, by the arrival of the record that wrote them. A lookup asks the bucket
of the record in hand and the one before it, so the window is the whole window, also across a bucket's edge.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from pipeline.contract import Position
from pipeline.errors import Undecodable

#: How long the same event id counts as a duplicate, and how long a bucket is. A constant, not a setting: the markers
#: of a log are in buckets of this length, and with another one nobody would find them.
WINDOW_MS = 48 * 3_600_000

_MARKER = struct.Struct(">QQ")
_BUCKET = struct.Struct(">I")
MARKER_BYTES = _MARKER.size
#: A row of a page: the marker's key and the marker.
_ROW = struct.Struct(f"{_BUCKET.size + 16}s{MARKER_BYTES}s")
#: Rows of a page at most: about 150 kB, well below what a broker takes as one record.
PAGE_ROWS = 4096


class Verdict(enum.Enum):
    """What to do with a record."""

    FIRST = "process it, and write its marker"
    AGAIN = "the very record that wrote the marker: process it, the marker stands"
    DUPLICATE = "skip and count it"


def judge(here: Position, markers: Iterable[Position]) -> Verdict:
    """What the record at `here` is, given the event's markers in its bucket and the one before.

    none                                  → FIRST
    same offset                           → AGAIN      redelivery, replay or redrive of the first
    lower offset, at most a window older  → DUPLICATE
    lower offset, more than that older    → FIRST      it happened again, move the marker
    higher offset                         → FIRST      a replay of something older, move the marker back

    With two markers a lower one within the window decides: after a replay of older records the higher one
    is only what this event's marker was before.
    """
    again = False
    for marker in markers:
        # Strictly less: after a crash Kafka redelivers the very record that wrote
        # this marker, and skipping it then would lose its effect.
        if marker.offset < here.offset and here.at - marker.at <= WINDOW_MS:
            return Verdict.DUPLICATE
        again = again or marker.offset == here.offset
    return Verdict.AGAIN if again else Verdict.FIRST


def bucket(at: int) -> int:
    """The number of the bucket that holds a record that arrived at `at` ms."""
    return at // WINDOW_MS


def key(bucket_number: int, digest: bytes) -> bytes:
    """A marker's key in the changelog: 4 bytes of bucket, big-endian, so that a bucket is a range; 16 of digest."""
    return _BUCKET.pack(bucket_number) + digest


def first_key(bucket_number: int) -> bytes:
    """The smallest key of a bucket; every key of older buckets is smaller."""
    return _BUCKET.pack(max(bucket_number, 0))


def floor(newest: int) -> bytes:
    """The smallest key that any lookup still asks for once a record arrived at `newest` ms."""
    return first_key(bucket(newest) - 1)


def floor_of(newest: bytes) -> bytes:
    """The floor that follows from the newest key there is."""
    return first_key(_BUCKET.unpack(newest[: _BUCKET.size])[0] - 1)


def digest(provider: str, event_id: str) -> bytes:
    """16 bytes that stand for one provider's event id; 2^64 ids would make one collision likely."""
    return blake2b(f"{provider}\0{event_id}".encode(), digest_size=16).digest()


def pack(marker: Position) -> bytes:
    """A marker as 16 bytes: offset and arrival in ms, big-endian."""
    return _MARKER.pack(marker.offset, marker.at)


def pages(markers: Mapping[bytes, bytes]) -> list[bytes]:
    """What the changelog keeps of markers by key: values of records without a key, 36 bytes a marker.

    A record for each would cost more than everything else that is done for an event, once more when it is restored.
    """
    rows = [key + marker for key, marker in markers.items()]
    return [b"".join(rows[start : start + PAGE_ROWS]) for start in range(0, len(rows), PAGE_ROWS)]


def rows_of(record_key: bytes | None, value: bytes | None) -> list[tuple[bytes, bytes | None]]:
    """The rows in a record of the changelog, None for a marker that is gone: a page, or one marker by its key.

    Raises Undecodable for a page that ends amid a row.
    """
    if record_key is not None:
        return [(record_key, value)]
    page = value or b""
    if len(page) % _ROW.size:
        raise Undecodable(f"value: {len(page)} bytes are no page of markers, which have {_ROW.size} bytes each")
    return list(_ROW.iter_unpack(page))


def unpack(value: bytes) -> Position:
    """The marker in 16 bytes."""
    return Position(*_MARKER.unpack(value))
