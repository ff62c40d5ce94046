"""Is the log of the dead letters still the one that was read?

A log that has lost its end gives its offsets again, so an offset alone tells nothing. With every offset the alerter
commits what the last letter was that it had read (docs/decisions/0021), and looks whether it still stands there: when
it is given the partition, before it takes letters after a pause, and now and then. A broker that lost something was
away for longer than the pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline import last_read, offsets, peek
from pipeline.last_read import Last
from pipeline.settings import Settings

#: Seconds after which a partition is looked at again, though nothing comes; and before letters are taken from it.
QUIET, PAUSE = 30.0, 1.0


class Log(Protocol):
    """What is asked of Kafka; both raise KafkaError or KafkaUnavailable."""

    async def committed(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, str]:
        """What stands with the group's offsets, "" for nothing."""
        ...

    async def replaced(self, partition: TopicPartition, last: Last) -> str | None:
        """How the log contradicts that this was read, None if it does not."""
        ...


@dataclass(frozen=True, slots=True)
class KafkaLog:
    """The log on a cluster, seen through the alerter's consumer."""

    settings: Settings
    group: str
    consumer: AIOKafkaConsumer

    async def committed(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, str]:
        """See `Log`."""
        found = await offsets.committed(self.settings, self.group, partitions)
        return {partition: str(place.metadata) for partition, place in found.items()}

    async def replaced(self, partition: TopicPartition, last: Last) -> str | None:
        """See `Log`."""
        return await peek.replaced(self.consumer, partition, last)


@dataclass(slots=True)
class _Known:
    """The last letter that was read of a partition, None if there is none; looked_at: when it stood there."""

    last: Last | None
    looked_at: float


class Continuity:
    """Of the partitions that are ours; `begin` says which. now is in seconds and never goes back."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[TopicPartition, _Known] = {}
        self._unknown: set[TopicPartition] = set()
        self._committed: Mapping[TopicPartition, str] = {}
        self._asking = asyncio.Lock()

    def begin(self, partitions: Collection[TopicPartition]) -> None:
        """These are ours now, and no others."""
        self._known.clear()
        self._unknown, self._committed = set(partitions), {}

    def due(self, now: float) -> list[TopicPartition]:
        """What is to be looked at though nothing came."""
        quiet = [tp for tp, known in self._known.items() if now - known.looked_at >= QUIET]
        return [*sorted(self._unknown), *quiet]

    def holds(self, partition: TopicPartition, now: float) -> bool:
        """Whether letters of it may be taken without another look."""
        known = self._known.get(partition)
        return known is not None and now - known.looked_at < PAUSE

    def knows(self, partition: TopicPartition) -> bool:
        """Whether it was looked at since it is ours: before that an offset must not be committed over what tells."""
        return partition in self._known

    async def look(self, partition: TopicPartition, now: float) -> str | None:
        """How the log contradicts what was read, None if it does not. Then nothing is known of it any more.

        Raises KafkaError, KafkaUnavailable if nobody can tell now.
        """
        known = self._known.get(partition)
        last = known.last if known else await self._before(partition)
        problem = await self._log.replaced(partition, last) if last else None
        if known is self._known.get(partition) and (known or partition in self._unknown):
            self._unknown.discard(partition)
            self._known[partition] = _Known(None if problem else last, now)
            return problem
        return None  # It was taken away meanwhile.

    async def _before(self, partition: TopicPartition) -> Last | None:
        """What was read last before the partition was ours, None if nobody knows."""
        async with self._asking:  # The first one asks for all.
            if partition not in self._committed:
                self._committed = await self._log.committed(self._unknown)
        return last_read.read(self._committed.get(partition, ""))

    def read(self, record: ConsumerRecord, now: float) -> None:
        """The latest letter of a partition that `holds`."""
        last = last_read.last_of(record, -1)
        self._known[TopicPartition(record.topic, record.partition)] = _Known(last, now)

    def metadata(self, partition: TopicPartition) -> str:
        """What to commit with an offset of a partition that it knows."""
        return last_read.write(self._known[partition].last)
