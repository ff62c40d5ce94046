"""Sends what is in a spool to Kafka, in order.

A shell over aiokafka. A partition gets one batch at a time, which Kafka takes as a whole or not: so whatever fails
and is sent again, no record of an address overtakes another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from ingress.batches import place_of
from ingress.segments import Held
from ingress.spool import Spool
from pipeline.topics import Topic

log = structlog.get_logger(__name__)

#: Rows, and bytes of them or one, that are looked at for one round of batches.
ROWS, BYTES = 500, 4 * 1024 * 1024
#: Seconds before a round that failed is tried again.
PAUSE = 0.5


async def drain(spool: Spool, producer: AIOKafkaProducer, topics: Mapping[str, Topic]) -> None:
    """Send what is in the spool, and what comes into it, for good.

    topics  by role

    Raises KafkaError if Kafka refuses something for good: then it stays in the spool.
    """
    sent = 0
    while True:
        await spool.filled.wait()
        try:
            rows = spool.head(ROWS, BYTES)
            if not rows:
                await asyncio.sleep(0.01)  # they are being written
                continue
            taken = await _round(rows, producer, topics)
        except KafkaError as error:
            if not error.retriable and not isinstance(error, KafkaTimeoutError):
                raise
            log.warning("the spool waits for Kafka", records=spool.rows, reason=str(error) or type(error).__name__)
            await asyncio.sleep(PAUSE)
            continue
        except OSError as error:
            log.warning("the spool cannot be read", records=spool.rows, error=str(error))
            await asyncio.sleep(PAUSE)
            continue
        spool.drop(taken)
        sent += len(taken)
        if not spool.filled.is_set():
            log.info("the spool is empty again", sent=sent)
            sent = 0
        # Others have their turn: rows are read and dropped without any waiting.
        await asyncio.sleep(0)


async def _round(rows: Sequence[Held], producer: AIOKafkaProducer, topics: Mapping[str, Topic]) -> Sequence[Held]:
    """Send one batch to each partition, as many of the rows as fit; those that were sent."""
    batches: dict[TopicPartition, Any] = {}
    taken = len(rows)
    for index, held in enumerate(rows):
        record, topic = held.row.record, topics[held.row.record.topic]
        place = TopicPartition(topic.name, place_of(record.key, topic.partitions))
        if place not in batches:
            batches[place] = producer.create_batch()
        added = batches[place].append(
            key=record.key, value=record.value, timestamp=None, headers=list(record.headers)
        )
        if added is None:  # the rest has to wait, or it would overtake this one
            taken = index
            break
    futures = []
    for place, batch in batches.items():
        batch.close()
        if batch.record_count():
            futures.append(await producer.send_batch(batch, place.topic, partition=place.partition))
    await asyncio.wait(futures)
    for failure in [failure for future in futures if (failure := future.exception())]:
        raise failure
    return rows[:taken]
