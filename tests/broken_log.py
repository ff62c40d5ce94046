"""Takes the end of a partition's log away, as a power cut, an unclean election or a restored disk does.

Works on the files of a broker that is stopped. Kafka then starts on them as after a crash: it reads the log again and
builds its indexes anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: What opens every batch of a log: base offset, length of what follows it, leader epoch, magic, checksum, attributes,
#: offset of the last record less that of the first. https://kafka.apache.org/documentation/#recordbatch
_HEADER = struct.Struct(">qiibIhi")
#: Bytes before those that the length counts.
_UNCOUNTED = 12
_TRANSACTIONAL, _CONTROL = 0x10, 0x20
#: Kafka's own notes of how far a log reaches, in the folder of all logs: it believes them rather than the log.
_NOTES = (".kafka_cleanshutdown", "recovery-point-offset-checkpoint", "replication-offset-checkpoint")
#: What Kafka derives from a segment and derives again where it is missing.
_DERIVED = ("*.index", "*.timeindex", "*.txnindex", "*.snapshot")


@dataclass(frozen=True, slots=True)
class Batch:
    """Offsets from `first` to before `end`; bytes from `position` on in its segment."""

    first: int
    end: int
    segment: Path
    position: int
    transactional: bool
    control: bool


def batches(log: Path) -> list[Batch]:
    """Every batch in the folder of a partition, in order."""
    return [batch for segment in sorted(log.glob("*.log")) for batch in _batches(segment)]


def _batches(segment: Path) -> Iterator[Batch]:
    content, position = segment.read_bytes(), 0
    while position + _HEADER.size <= len(content):
        first, length, _, magic, _, attributes, last = _HEADER.unpack_from(content, position)
        assert magic == 2, f"{segment}: no batch at {position}"
        yield Batch(
            first,
            first + last + 1,
            segment,
            position,
            transactional=bool(attributes & _TRANSACTIONAL),
            control=bool(attributes & _CONTROL),
        )
        position += _UNCOUNTED + length


def cut(data: Path, topic: str, partition: int, count: int) -> int:
    """Take the last `count` batches away; the offset at which the log ends now.

    data  the folder of all logs of a broker that is stopped, `log.dirs`
    """
    log = data / f"{topic}-{partition}"
    found = batches(log)
    assert 0 < count <= len(found), f"{log} has {len(found)} batches"
    first_gone = found[-count]
    for segment in sorted(log.glob("*.log")):
        if segment.name > first_gone.segment.name:
            segment.unlink()
    with first_gone.segment.open("r+b") as file:
        file.truncate(first_gone.position)
    for pattern in _DERIVED:
        for file_of_index in log.glob(pattern):
            file_of_index.unlink()
    for note in _NOTES:
        (data / note).unlink(missing_ok=True)
    return first_gone.first
