"""Writes operators' events to the log. A shell over aiokafka.

Idempotent and acknowledged by all in-sync replicas as the ingress's records are, and not transactional: the processor
relies on contiguous offsets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from pipeline import contract, kafka, operators, security
from pipeline.contract import Event
from pipeline.errors import Interrupted, KafkaUnavailable
from pipeline.settings import Settings
from pipeline.topics import Topic

#: Events under way at once: enough for full batches, and all that memory holds.
AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Written:
    """How many events were written, and when the log took the last of them, in ms by the broker's clock."""

    count: int
    at: int


async def append(
    settings: Settings, events: Iterable[Event], progress: Callable[[int], None] = lambda _: None
) -> Written:
    """What was written, once each is acknowledged; progress is called with the number so far.

    Raises ConfigError, KafkaUnavailable, Interrupted if it is cancelled. Some of the events may then be on the log.
    """
    topic = (await kafka.require_topics(settings)).events
    producer = AIOKafkaProducer(
        **kafka.client_options(settings), acks="all", enable_idempotence=True, max_batch_size=128 * 1024, linger_ms=5
    )
    writing = _Writing(producer, topic)
    try:
        await producer.start()
        try:
            await writing.all(events, progress)
        except asyncio.CancelledError:
            await writing.settled()
            raise Interrupted(
                f"{writing.done:,} events are on the log. The same command can be typed again: "
                "what is there already counts once."
            ) from None
        finally:
            await producer.stop()
    except (KafkaError, OSError) as error:
        if denied := security.denied(error):
            raise denied from None
        raise KafkaUnavailable(
            f"Kafka did not take all of it, {writing.done} are written ({error!r}): try again."
        ) from None
    return Written(writing.done, writing.at)


@dataclass(slots=True)
class _Writing:
    """Events on their way: how many are acknowledged, the time of the latest of them in ms, and what is under way."""

    producer: AIOKafkaProducer
    topic: Topic
    done: int = 0
    at: int = 0
    under_way: list[asyncio.Future[RecordMetadata]] = field(default_factory=list)

    async def all(self, events: Iterable[Event], progress: Callable[[int], None]) -> None:
        """Write them, some at a time."""
        left = iter(events)
        while some := list(islice(left, AT_ONCE)):
            for event in some:
                self.under_way.append(await _send(self.producer, self.topic, event))
            await self.settled()
            progress(self.done)

    async def settled(self) -> None:
        """Count what is acknowledged, once it is known of all; raises the KafkaError of what is not."""
        if self.under_way:
            # Not gather: cancelled, it would cancel the sending too, and nobody would know what is written.
            await asyncio.wait(self.under_way)
        under_way, self.under_way = self.under_way, []
        errors = [error for each in under_way if (error := each.exception())]
        written = [each.result().timestamp for each in under_way if not each.exception()]
        self.done += len(written)
        self.at = max([self.at, *written])
        if errors:
            raise errors[0]


async def _send(producer: AIOKafkaProducer, topic: Topic, event: Event) -> asyncio.Future[RecordMetadata]:
    key = contract.key(event)
    future: asyncio.Future[RecordMetadata] = await producer.send(
        topic.name,
        key=key,
        # Of those that topics.yaml counts: the cluster may have more, which nobody reads.
        partition=contract.partition_of(key, topic.partitions),
        value=contract.encode(event),
        headers=operators.headers(event, os.urandom(24)),
    )
    return future
