"""The transactional producer of one lane: what it commits is there as a whole, and starting it is the fence.

A shell over aiokafka.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, InvalidTxnState, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from pipeline import kafka, last_read
from pipeline.errors import Fenced, StateLost
from pipeline.last_read import Last
from pipeline.settings import Settings
from processor.letters import Row
from processor.place import Place

#: The coordinator ends the transaction of a silent owner after this; a thawed one finds itself fenced.
TRANSACTION_TIMEOUT_MS = 30_000
#: The same for a transaction that writes a whole list: as long as brokers allow by default.
LONGEST_TIMEOUT_MS = 900_000
#: How long to wait before asking again whether the last transaction's markers are written. They take a few ms,
#: and aiokafka's default of 100 would be most of a transaction's time.
RETRY_BACKOFF_MS = 10
PRODUCER_BATCH_BYTES = 512 * 1024
#: What aiokafka says where the broker has given a record its time.
_APPEND_TIME = 1
NOWHERE: Mapping[str, int] = MappingProxyType({})


class Sent(NamedTuple):
    """A batch under way: the future of its metadata, whose offset is that of its first record.

    size   how many records it has
    row    the last one
    at     its time in ms, unless the broker gives it another
    """

    metadata: Awaitable[Any]
    size: int
    row: Row
    at: int


class Transactions:
    """One transaction at a time, all rows to one partition number; between start and stop."""

    def __init__(
        self, settings: Settings, group: str, number: int, *, timeout_ms: int = TRANSACTION_TIMEOUT_MS
    ) -> None:
        self._timeout_ms = timeout_ms
        self._group = group
        self._number = number
        self._producer = AIOKafkaProducer(
            **kafka.client_options(settings),
            transactional_id=kafka.lane_id(group, number),
            transaction_timeout_ms=timeout_ms,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            max_batch_size=PRODUCER_BATCH_BYTES,
            max_request_size=kafka.LARGEST_REQUEST,
        )

    async def start(self) -> None:
        """Fence the former owner of the partition, and end its open transaction."""
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect; between transactions only."""
        await self._producer.stop()

    async def commit(
        self,
        rows: Mapping[str, Sequence[Row]],
        source: Mapping[TopicPartition, OffsetAndMetadata],
        behind: Mapping[str, int] = NOWHERE,
    ) -> dict[str, Place]:
        """Write rows by topic and the group's offsets at once; by topic the place after what was written.

        behind  by topic, the offset that what is written cannot be before: nobody else writes there

        Raises Fenced if the partition has another owner, StateLost if a topic gives offsets again, and nothing of it
        is committed; KafkaError if it is not known what became of it.
        """
        try:
            async with self._producer.transaction():
                try:
                    sent = await self._send_all(rows)
                    # The offsets go to the coordinator while the rows go to their leaders.
                    _, *ends = await asyncio.gather(
                        self._send_offsets(source),
                        *[_end(f"{topic}-{self._number}", sent[topic], behind.get(topic, 0)) for topic in sent],
                    )
                except (IllegalOperation, InvalidTxnState) as error:
                    raise self._failure() or error from None
        except ProducerFenced:
            raise Fenced(
                f"partition {self._number} has another owner now, or Kafka ended our transaction after "
                f"{self._timeout_ms // 1000} s; nothing of it is committed, and nothing is lost"
            ) from None
        return {topic: end for topic, end in zip(sent, ends, strict=True) if end is not None}

    async def _send_offsets(self, source: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if source:
            await self._producer.send_offsets_to_transaction(source, self._group)

    async def _send_all(self, rows: Mapping[str, Sequence[Row]]) -> dict[str, list[Sent]]:
        return {topic: await self._send(topic, several) for topic, several in rows.items() if several}

    def _failure(self) -> BaseException | None:
        """What made the transaction fail, where an error only says that it has failed.

        A topic that we may not write to ends the transaction; what is written after that, or was on its way, is
        refused for want of one. aiokafka tells the reason to nobody but who waits for the transaction's end.
        """
        end = self._producer._txn_manager.wait_for_transaction_end()
        return end.exception() if end.done() else None

    async def _send(self, topic: str, rows: Sequence[Row]) -> list[Sent]:
        """Hand rows to the producer, in order, without waiting for their acknowledgement."""
        sent = []
        builder, now, last = self._producer.create_batch(), int(time.time() * 1000), rows[0]
        for row in rows:
            key, value, headers = row
            if builder.append(key=key, value=value, timestamp=now, headers=headers) is None:
                sent.append(await self._send_batch(topic, builder, last, now))
                builder = self._producer.create_batch()
                builder.append(key=key, value=value, timestamp=now, headers=headers)
            last = row
        sent.append(await self._send_batch(topic, builder, last, now))
        return sent

    async def _send_batch(self, topic: str, builder: Any, last: Row, now: int) -> Sent:
        builder.close()
        future = await self._producer.send_batch(builder, topic, partition=self._number)
        return Sent(future, builder.record_count(), last, now)


async def _end(name: str, sent: list[Sent], least: int) -> Place | None:
    """The place after the last record that was sent, None if the broker did not tell. Raises StateLost."""
    told = await asyncio.gather(*[batch.metadata for batch in sent])
    first, last = told[0].offset, told[-1]
    if 0 <= first < least:
        raise StateLost(f"{name} gave offset {first} to a new record, and its records go to {least - 1}")
    if last.offset < 0:
        return None
    key, value, _ = sent[-1].row
    end = last.offset + sent[-1].size
    at = last.timestamp if last.timestamp_type == _APPEND_TIME else sent[-1].at
    return Place(end, Last(offset=end - 1, at=at, digest=last_read.digest_of(key, value)))
