"""Writes operators' events to the log. A shell over aiokafka.

Idempotent and acknowledged by all in-sync replicas as the ingress's records are, and not transactional: the processor
relies on contiguous offsets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from pipeline import contract, kafka, operators, security
from pipeline.contract import Event
from pipeline.errors import KafkaUnavailable
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

    Raises ConfigError, KafkaUnavailable. Some of the events may then be on the log.
    """
    topic = (await kafka.require_topics(settings)).events
    producer = AIOKafkaProducer(
        **kafka.client_options(settings), acks="all", enable_idempotence=True, max_batch_size=128 * 1024, linger_ms=5
    )
    done, at, left = 0, 0, iter(events)
    try:
        await producer.start()
        try:
            while some := list(islice(left, AT_ONCE)):
                sent = [await _send(producer, topic, event) for event in some]
                at = max([metadata.timestamp for metadata in await asyncio.gather(*sent)])
                done += len(some)
                progress(done)
        finally:
            await producer.stop()
    except (KafkaError, OSError) as error:
        if denied := security.denied(error):
            raise denied from None
        raise KafkaUnavailable(f"Kafka did not take all of it, {done} are written ({error!r}): try again.") from None
    return Written(done, at)


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
