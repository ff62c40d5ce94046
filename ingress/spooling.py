"""What stands in the spool, and when it takes no more.

Pure; `spool` keeps the rows on disk. Rows are in the order in which deliveries were taken; their keys are numbers, so
that order is RocksDB's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgspec

from ingress.accept import Outgoing
from pipeline.contract import Millis

_KEY = struct.Struct(">Q")


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One record on its way to Kafka; at is when it was taken, in ms."""

    at: Millis
    record: Outgoing


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Row)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a spool may hold: bytes in all, and how old its oldest row may be, in seconds, for more to be taken."""

    size: int
    age: float

    def refusal(self, *, held: int, adding: int, oldest: int | None, now: int) -> str | None:
        """Why nothing more is taken, None if it is; sizes in bytes, times in ms."""
        if held + adding > self.size:
            return f"the spool is full: {held} of {self.size} bytes (INGRESS_SPOOL_MAX_BYTES)"
        if oldest is not None and now - oldest > self.age * 1000:
            return f"the spool's oldest record has waited for more than {self.age:g} s (INGRESS_SPOOL_MAX_SECONDS)"
        return None


def key(number: int) -> bytes:
    """The row's key: its number, 8 bytes, big-endian."""
    return _KEY.pack(number)


def number(row_key: bytes) -> int:
    """The number in a key."""
    found: int = _KEY.unpack(row_key)[0]
    return found


def encode(row: Row) -> bytes:
    """The row's value: MessagePack."""
    return _encoder.encode(row)


def decode(value: bytes) -> Row:
    """The row in a value."""
    return _decoder.decode(value)
