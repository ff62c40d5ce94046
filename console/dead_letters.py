"""Reads the dead-letter topic and the letters' states.

A shell over aiokafka: letters.py says what the records mean. Everything is read up to the end as it was at the start,
read_committed, so a letter whose transaction is still open belongs to the next look.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from console import letters
from console.letters import Index
from pipeline import kafka
from pipeline.letters import Place
from pipeline.settings import Settings
from pipeline.topics import Topic, Topics

#: (records read, records in all); control records count too.
Progress = Callable[[int, int], None]

FETCH_BYTES = 4 * 1024 * 1024
#: A wanted record at most this many offsets on is read up to; to one further on we jump, which drops what is fetched.
NEAR = 500


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of nothing yet, in no group."""
    consumer = AIOKafkaConsumer(
        **kafka.client_options(settings),
        enable_auto_commit=False,
        isolation_level="read_committed",
        # What retention took while we read is gone: go on with the oldest there is.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_bytes=4 * FETCH_BYTES,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_index(consumer: AIOKafkaConsumer, topics: Topics, progress: Progress) -> Index:
    """Every letter there is, and what people did about it."""
    index = Index()
    async for record in _all(consumer, topics.letter_states, _silent):
        if record.key is not None and record.value is not None:
            index.states[record.key.decode(errors="replace")] = record.value
    async for record in _all(consumer, topics.dead_letters, progress):
        index.add(record, record.partition)
    return index


def _silent(_: int, __: int) -> None:
    pass


async def _all(consumer: AIOKafkaConsumer, topic: Topic, progress: Progress) -> AsyncIterator[ConsumerRecord]:
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer.assign(partitions)
    first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    for partition in partitions:
        consumer.seek(partition, first[partition])
    total = sum(end[p] - first[p] for p in partitions)
    positions = dict(first)
    # The end counts control records, which are never handed out: so the position tells, not a record's offset.
    while behind := [p for p in partitions if positions[p] < end[p]]:
        for records in (await consumer.getmany(*behind, timeout_ms=500)).values():
            for record in records:
                yield record
        positions = {p: await consumer.position(p) for p in partitions}
        progress(sum(min(positions[p], end[p]) - first[p] for p in partitions), total)


async def fetch(consumer: AIOKafkaConsumer, topic: Topic, places: Iterable[Place]) -> AsyncIterator[ConsumerRecord]:
    """The records at these places, partition by partition and in order; those that have expired are left out.

    Whoever takes them one by one holds one fetch in memory, however many there are.
    """
    for number, offsets in letters.partitions(dict.fromkeys(places)).items():
        partition = TopicPartition(topic.name, number)
        consumer.assign([partition])
        async for record in _at(consumer, partition, offsets):
            yield record


async def _at(
    consumer: AIOKafkaConsumer, partition: TopicPartition, offsets: list[int]
) -> AsyncIterator[ConsumerRecord]:
    wanted = set(offsets)
    end = (await consumer.end_offsets([partition]))[partition]
    position = -NEAR
    for offset in offsets:
        if offset < position:
            continue  # read already, or expired
        if offset >= position + NEAR:
            consumer.seek(partition, offset)
            position = offset
        while position <= offset and position < end:
            for records in (await consumer.getmany(partition, timeout_ms=500)).values():
                for record in records:
                    if record.offset in wanted:
                        yield record
            position = await consumer.position(partition)
