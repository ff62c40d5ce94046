"""How rows stand in a file of the spool, and what is left of them where the file is damaged.

Pure: bytes in, values out; `segments` keeps the files. A file is a slot, which says up to which row all is in Kafka,
and the rows. Each row carries its number, its length and checksums of both its head and its value, and ends with a
byte that is not 0: so what a power cut left half written is told from what was whole once. Numbers are contiguous: a
row is lost where one is missing, and only there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

import msgspec

from ingress import spooling
from pipeline.contract import Millis

#: A number and its checksum.
_SLOT = struct.Struct(">QI")
#: Mark, number, length of the value, checksum of the value; a checksum of these follows.
_HEAD = struct.Struct(">4sQII")
_CHECK = struct.Struct(">I")
_MARK = b"row\x01"
_END = b"\xff"

#: Where the first row of a file stands.
START = _SLOT.size
#: Bytes that a row has besides its value.
AROUND = _HEAD.size + _CHECK.size + len(_END)


class Intact(NamedTuple):
    """A row that is as it was written, and where it stands."""

    number: int
    value: bytes
    start: int
    end: int


class Damaged(NamedTuple):
    """Bytes that were rows once, up to the next one that is intact."""

    start: int
    end: int


class Torn(NamedTuple):
    """The begin of a row that was never written to its end, so nobody was told that it is safe."""

    start: int


class Loss(NamedTuple):
    """Rows that are missing, at least one: taken after `after` and before `before`, in ms; None: not known."""

    rows: int
    after: Millis | None
    before: Millis | None


@dataclass(slots=True)
class Scan:
    """What stands in a file.

    first   the number of its first row
    at      where the first row stands that is not in Kafka yet
    rows    of these, and `size` their bytes
    oldest  when the first of them was taken, `latest` the last, in ms
    next    the number that the next row has to have
    broken  that it ends with bytes that were rows once: only what comes next tells how many
    """

    first: int
    next: int
    at: int = START
    rows: int = 0
    size: int = 0
    oldest: Millis | None = None
    latest: Millis | None = None
    broken: bool = False
    losses: list[Loss] = field(default_factory=list)

    def expect(self, number: int, taken: Millis | None) -> None:
        """A row with this number comes now: those before it have to be there."""
        if number > self.next:
            self.losses.append(Loss(number - self.next, self.latest, taken))
        self.next = max(self.next, number)


def slot(sent: int) -> bytes:
    """The begin of a file whose rows below this number are in Kafka."""
    number = sent.to_bytes(8, "big")
    return _SLOT.pack(sent, crc32(number))


def sent(data: bytes) -> int:
    """What the slot says; 0 if it cannot be read, since what is sent twice is dropped in the end."""
    if len(data) < START:
        return 0
    number, check = _SLOT.unpack_from(data)
    return int(number) if crc32(data[:8]) == check else 0


def pack(number: int, value: bytes) -> bytes:
    """A row as it stands in a file."""
    head = _HEAD.pack(_MARK, number, len(value), crc32(value))
    return b"".join((head, _CHECK.pack(crc32(head)), value, _END))


def walk(data: bytes, at: int = 0) -> Iterator[Intact | Damaged | Torn]:
    """The rows in these bytes from a place on, and what is there instead of some."""
    while at < len(data):
        found = _row(data, at)
        if isinstance(found, Intact):
            yield found
            at = found.end
        elif len(data.rstrip(b"\0")) < found:
            yield Torn(at)
            return
        else:
            following = _next(data, at + 1)
            yield Damaged(at, following)
            at = following


def scan(data: bytes, first: int) -> Scan:
    """What stands in a whole file, whose first row has this number."""
    done = sent(data)
    seen = Scan(first, next=max(first, done))
    for piece in walk(data, START):
        seen.broken = isinstance(piece, Damaged)
        if isinstance(piece, Intact):
            _count(seen, piece, done)
    return seen


def _count(seen: Scan, row: Intact, done: int) -> None:
    if row.number < done:
        seen.at = row.end
        return
    try:
        taken = spooling.decode(row.value).at
    except msgspec.MsgspecError:
        return  # whole, and none of ours: its number will be missed
    seen.expect(row.number, taken)
    seen.next = row.number + 1
    seen.oldest = taken if seen.oldest is None else seen.oldest
    seen.latest = taken
    seen.rows += 1
    seen.size += len(row.value) + AROUND


def _row(data: bytes, at: int) -> Intact | int:
    """The row that stands there; or, if it is not whole, where it would have to end at least."""
    begin = at + _HEAD.size + _CHECK.size
    if begin > len(data):
        return begin
    mark, number, length, check = _HEAD.unpack_from(data, at)
    if mark != _MARK or crc32(data[at : at + _HEAD.size]) != _CHECK.unpack_from(data, at + _HEAD.size)[0]:
        return begin
    end: int = begin + length + len(_END)
    value = data[begin : begin + length]
    if end > len(data) or crc32(value) != check or data[end - 1 : end] != _END:
        return end
    return Intact(number, value, at, end)


def _next(data: bytes, at: int) -> int:
    """Where the next row stands that is intact; the end, if there is none."""
    while (at := data.find(_MARK, at)) >= 0:
        if isinstance(_row(data, at), Intact):
            return at
        at += 1
    return len(data)
