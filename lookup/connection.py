"""The connection that the follower reads Kafka through: what it needs of it, how it is opened and closed, and which
errors mean that it is worth opening another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from pipeline import kafka
from pipeline.contract import Record
from pipeline.errors import KafkaUnavailable
from pipeline.settings import Settings


class Log(Protocol):
    """The part of `AIOKafkaConsumer` that following needs."""

    def assign(self, partitions: list[TopicPartition]) -> None: ...
    def partitions_for_topic(self, topic: str) -> set[int] | None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    async def position(self, partition: TopicPartition) -> int: ...
    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Sequence[Record]]: ...
    async def beginning_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    async def end_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    async def offsets_for_times(self, timestamps: dict[TopicPartition, int]) -> Mapping[TopicPartition, Any]: ...


def out_of_sight(error: Exception) -> bool:
    """Does this error mean that Kafka, or the topic, cannot be asked right now? Any other one ends the process."""
    if isinstance(error, KafkaError):
        return error.retriable or isinstance(error, KafkaTimeoutError)
    return isinstance(error, KafkaUnavailable)


@asynccontextmanager
async def consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group; whoever uses it assigns and seeks. Raises KafkaError if Kafka cannot be reached."""
    client = AIOKafkaConsumer(
        **kafka.client_options(settings),
        isolation_level="read_committed",
        # A position outside the log is for the follower to judge: jumping to either end would lose deletions.
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    try:
        await client.start()
        yield client
    finally:
        await _stop(client)


async def _stop(client: AIOKafkaConsumer) -> None:
    try:
        await client.stop()
    except asyncio.CancelledError:
        # Not ours, as a rule: aiokafka cancels a fetch that waits after an error, lets that out of `stop`, and leaves
        # its connections open, which would try to reach Kafka for ever.
        await client._client.close()
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
