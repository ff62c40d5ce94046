"""The processors' consumer group: who is in it, where it stands, and putting it somewhere else.

A shell over aiokafka; `console.rewind` holds the rules. Nothing here joins the group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CommitFailedError, for_code
from aiokafka.structs import OffsetAndMetadata

from console.rewind import Partition
from pipeline import kafka, offsets, topic_ids
from pipeline.errors import ForeignOffset, PostlogError
from pipeline.settings import Settings
from processor import marks, source
from processor.marks import Mark

#: The offset of a partition in which nothing was committed.
NOWHERE = OffsetAndMetadata(-1, "")
#: Lanes that are fenced at once: each is a producer with connections of its own.
_FENCED_AT_ONCE = 4


class Member(msgspec.Struct, frozen=True):
    """One process in the group."""

    client: str
    host: str


@dataclass(frozen=True, slots=True)
class Group:
    """The group on a cluster that answers. Made by `open_group`."""

    settings: Settings
    name: str
    topic: str
    _admin: AIOKafkaAdminClient
    _consumer: AIOKafkaConsumer
    _partitions: list[TopicPartition]

    async def members(self) -> list[Member]:
        """Who holds the group now; empty means that its offsets may be moved. Raises KafkaError."""
        [response] = await self._admin.describe_consumer_groups([self.name])
        [found] = response.to_object()["groups"]
        if found["error_code"]:
            raise for_code(found["error_code"])(self.name)
        return [Member(m["client_id"], m["client_host"].removeprefix("/")) for m in found["members"]]

    async def partitions(self, final: Collection[int] = ()) -> list[Partition]:
        """Where the log and the group stand. Raises KafkaError.

        final  partitions that are fenced, so that no transaction can move the group there any more; others may move
        """
        beginnings = await self._consumer.beginning_offsets(self._partitions)
        ends = await self._consumer.end_offsets(self._partitions)
        found = await self._admin.list_consumer_group_offsets(self.name)
        if sure := [tp for tp in self._partitions if tp.partition in final]:
            found |= await offsets.committed(self.settings, self.name, sure)
        committed = {tp: found.get(tp, NOWHERE) for tp in self._partitions}
        noted = {tp: _mark(place.metadata) for tp, place in committed.items()}
        return [
            Partition(
                number=tp.partition,
                beginning=beginnings[tp],
                end=ends[tp],
                committed=committed[tp].offset if committed[tp].offset >= 0 else None,
                bounds=noted[tp].bounds,
                last=noted[tp].last,
                topic=noted[tp].topic,
            )
            for tp in self._partitions
        ]

    async def lost(self, partitions: Collection[Partition]) -> dict[int, int]:
        """By partition whose log contradicts its offset, the first offset on it that is not processed yet."""
        found = {}
        ids = await topic_ids.of(self._admin._client, [self.topic])
        for partition in partitions:
            tp = TopicPartition(self.topic, partition.number)
            first, end = partition.beginning, partition.end
            offset = await source.goes_on(
                self._consumer,
                tp,
                partition.committed,
                partition.last,
                first=first,
                end=end,
                remade=topic_ids.another(partition.topic, ids.get(self.topic, "")),
            )
            if offset is not None:
                found[partition.number] = offset
        return found

    async def first_at(self, at: int) -> dict[int, int | None]:
        """Offset of the first record that arrived at `at` (ms) or later, by partition; None where there is none."""
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, at))
        return {tp.partition: place and place.offset for tp, place in found.items()}

    async def fence(self, partitions: Collection[int]) -> None:
        """End what a processor that is no member any more might still commit: one that froze, and may thaw.

        Its transaction would carry the former offset, and undo ours. Raises KafkaError.
        """
        room = asyncio.Semaphore(_FENCED_AT_ONCE)

        async def fence(number: int) -> None:
            producer = AIOKafkaProducer(
                **kafka.client_options(self.settings), transactional_id=kafka.lane_id(self.name, number)
            )
            async with room, producer:
                pass

        await asyncio.gather(*[fence(number) for number in partitions])

    async def commit(self, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Put the group at these offsets, each with its metadata, by partition.

        Raises PostlogError if somebody has joined meanwhile, which Kafka itself checks, and KafkaError.
        """
        try:
            await self._consumer.commit({TopicPartition(self.topic, n): place for n, place in offsets.items()})
        except CommitFailedError:
            raise PostlogError(
                f"a processor joined {self.name} meanwhile, and nothing was changed: stop it, and try again"
            ) from None


def _mark(metadata: str) -> Mark:
    """What stands with an offset. Nothing if it is not ours: a processor refuses that, and a move replaces it."""
    try:
        return marks.read(metadata)
    except ForeignOffset:
        return Mark()


@asynccontextmanager
async def open_group(settings: Settings) -> AsyncIterator[Group]:
    """The processors' group. Raises ConfigError, KafkaUnavailable, TopicsMismatch."""
    events = (await kafka.require_topics(settings)).events
    name = kafka.group_of(settings, "processor")
    partitions = [TopicPartition(events.name, number) for number in range(events.partitions)]
    async with kafka.admin(settings) as admin:
        consumer = AIOKafkaConsumer(**kafka.client_options(settings), group_id=name, enable_auto_commit=False)
        try:
            await consumer.start()
            consumer.assign(partitions)
            yield Group(settings, name, events.name, admin, consumer, partitions)
        finally:
            await consumer.stop()
