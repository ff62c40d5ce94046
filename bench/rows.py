"""Fill a topic with ready-made rows, as fast as one process can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline import kafka
from pipeline.contract import partition_of
from pipeline.settings import Settings
from pipeline.topics import Topic

#: Bytes of a batch: below what a topic takes by default.
BATCH_BYTES = 512 * 1024

Row = tuple[bytes, bytes]


async def fill(settings: Settings, topic: Topic, rows: Iterable[Iterable[Row]]) -> None:
    """Write rows (key, value) of each partition in turn, a batch of one after a batch of the other.

    Raises KafkaError if one was not acknowledged.
    """
    options = kafka.client_options(settings)
    waiting = {partition: iter(each) for partition, each in enumerate(rows)}
    acknowledged: list[Awaitable[Any]] = []
    async with AIOKafkaProducer(**options, max_batch_size=BATCH_BYTES, acks="all") as producer:
        left: dict[int, Row | None] = dict.fromkeys(waiting)
        while left:
            for partition in list(left):
                builder = producer.create_batch()
                more = _fill(builder, waiting[partition], left[partition])
                if builder.record_count():
                    acknowledged.append(await producer.send_batch(builder, topic.name, partition=partition))
                if more is None:
                    del left[partition]
                else:
                    left[partition] = more
        await asyncio.gather(*acknowledged)


def shared_out(rows: Iterable[Row], partitions: int) -> list[list[Row]]:
    """The rows by partition, as every producer of ours chooses it: by the key."""
    shares: list[list[Row]] = [[] for _ in range(partitions)]
    for row in rows:
        shares[partition_of(row[0], partitions)].append(row)
    return shares


def _fill(builder: Any, rows: Iterator[Row], first: Row | None) -> Row | None:
    """Put rows into a batch until it is full: the one that did not fit, None if there are no more."""
    if first is not None:
        builder.append(key=first[0], value=first[1], timestamp=None)
    for row in rows:
        if builder.append(key=row[0], value=row[1], timestamp=None) is None:
            builder.close()
            return row
    builder.close()
    return None
