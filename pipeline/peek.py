"""Looks at one place of a log, as it is: also at what is in a transaction, or is no record at all.

A shell over one aiokafka consumer, whose own reading it does not touch.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import stamina
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, LeaderNotAvailableError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from pipeline import last_read
from pipeline.contract import Record
from pipeline.last_read import Last

_READ_UNCOMMITTED = 0
#: A broker gives at least one batch, whatever its size.
_FEW_BYTES = 1
#: How long to ask for an answer while the partition has no leader, in seconds.
PATIENCE = 30.0
#: The first bytes of a batch: base offset, length, leader epoch.
_HEADER = struct.Struct(">qii")


def head_of(data: bytes) -> tuple[int, int]:
    """Base offset and leader epoch of the first batch in an answer; (-1, -1) if there is none."""
    if len(data) < _HEADER.size:
        return -1, -1
    first, _, epoch = _HEADER.unpack_from(data)
    return first, epoch


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at an offset.

    first   where the batch that holds it begins, or the next one after a hole; None at the end of the log
    epoch   the leader epoch it was written in
    record  None if it is no record, or not there
    stable  the first offset of the oldest open transaction, or the end of the log
    end     offset after the newest record
    """

    first: int | None
    epoch: int
    record: Record | None
    stable: int
    end: int


async def at(consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> Place | None:
    """What stands at the offset; None if it is outside of the log. Raises KafkaError if nobody can tell."""
    async for attempt in stamina.retry_context(on=_may_pass, timeout=PATIENCE, attempts=None, wait_max=1.0):
        with attempt:
            return await _ask(consumer._client, partition, offset)
    raise AssertionError("a retry ends with an answer or an error")


async def compare(
    consumer: AIOKafkaConsumer, partition: TopicPartition, last: Last, *, first: int
) -> tuple[str | None, int]:
    """How the log from `first` on contradicts what was read last, and the leader epoch of what stands there, or -1.

    Raises KafkaError if nobody can tell.
    """
    found = await at(consumer, partition, last.offset)
    return last_read.replaced(last, found.record if found else None, first=first), found.epoch if found else -1


async def replaced(consumer: AIOKafkaConsumer, partition: TopicPartition, last: Last) -> str | None:
    """How the log contradicts what was read last; None if it does not. Raises KafkaError if nobody can tell."""
    # At once: each answer of a broker waits behind a fetch that is under way.
    begins, found = await asyncio.gather(
        consumer.beginning_offsets([partition]), at(consumer, partition, last.offset)
    )
    return last_read.replaced(last, found.record if found else None, first=begins[partition])


def _may_pass(error: Exception) -> bool:
    return isinstance(error, KafkaError) and error.retriable


async def _ask(client: Any, partition: TopicPartition, offset: int) -> Place | None:
    await client._wait_on_metadata(partition.topic)
    leader = client.cluster.leader_for_partition(partition)
    if leader is None or leader < 0:
        await client.force_metadata_update()
        raise LeaderNotAvailableError(partition)
    wanted = [(partition.topic, [(partition.partition, offset, _FEW_BYTES)])]
    answer = await client.send(leader, FetchRequest(0, 0, _FEW_BYTES, _READ_UNCOMMITTED, wanted))
    [(_, [(_, code, end, stable, *_, data)])] = answer.topics
    error = for_code(code)
    if error is OffsetOutOfRangeError:
        return None
    if code:
        await client.force_metadata_update()
        raise error(partition)
    return _read(data or b"", offset, stable, end)


def _read(data: bytes, offset: int, stable: int, end: int) -> Place:
    batches = MemoryRecords(data)
    if not batches.has_next():
        return Place(None, -1, None, stable, end)
    first, epoch = head_of(data)
    batch: Any = batches.next_batch()
    records = [] if batch.is_control_batch else [record for record in batch if record.offset == offset]
    return Place(first, epoch, records[0] if records else None, stable, end)
