"""What stands in the spool, and when it takes no more.

Pure; `spool` keeps the rows on disk, in the order in which deliveries were taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ingress.accept import Outgoing
from pipeline.contract import Millis


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One record on its way to Kafka; at is when it was taken, in ms."""

    at: Millis
    record: Outgoing


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Row)


#: Of a disk this share stays free, and no more than so many bytes: others live there, too.
RESERVED_SHARE, RESERVED_BYTES = 1 / 20, 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a spool may hold, and what may wait for its disk.

    size     bytes on the disk
    age      how old its oldest row may be, in seconds, for more to be taken
    waiting  bytes in memory
    """

    size: int
    age: float
    waiting: int

    def refusal(
        self, *, held: int, waiting: int, adding: int, room: int, oldest: Millis | None, now: Millis
    ) -> str | None:
        """Why nothing more is taken, None if it is; sizes in bytes.

        held     what it holds, with what waits
        waiting  what of that is not on the disk yet
        room     what the disk has for it, see `room`
        """
        if held + adding > self.size:
            return f"the spool is full: {held} of {self.size} bytes (INGRESS_SPOOL_MAX_BYTES)"
        if waiting + adding > room:
            return f"the disk of the spool has room for {room} bytes, the rest is kept free (INGRESS_SPOOL_DIR)"
        if waiting and waiting + adding > self.waiting:
            return f"{waiting} bytes wait for the spool's disk already (INGRESS_MAX_PENDING_BYTES)"
        if oldest is not None and now - oldest > self.age * 1000:
            return f"the spool's oldest record has waited for more than {self.age:g} s (INGRESS_SPOOL_MAX_SECONDS)"
        return None


def room(*, free: int, disk: int) -> int:
    """Bytes that a spool may still take of a disk of this size."""
    return max(0, free - min(int(disk * RESERVED_SHARE), RESERVED_BYTES))


def encode(row: Row) -> bytes:
    """The row as bytes: MessagePack."""
    return _encoder.encode(row)


def decode(value: bytes) -> Row:
    """The row in these bytes. Raises msgspec.MsgspecError if there is none."""
    return _decoder.decode(value)
