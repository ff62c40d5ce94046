"""Records that somebody else wrote to partitions which topics.yaml does not know: nobody reads them.

A shell: it asks Kafka how many there are, now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.incidents import Incident
from pipeline.live import records_beyond
from pipeline.topics import Topic

log = structlog.get_logger(__name__)

#: Seconds between two looks, and how long one may take: people are told of all else meanwhile, or right after.
LOOK_SECONDS, PATIENCE = 30.0, 2.0


class Strangers:
    """incidents  what is there, by the last look; None before the first one that Kafka answered"""

    def __init__(self, topics: Iterable[Topic]) -> None:
        self.incidents: list[Incident] | None = None
        self._topics = list(topics)
        self._look_at = 0.0

    async def look(self, consumer: AIOKafkaConsumer, now: float) -> None:
        """Look if it is time to; now is in seconds. While Kafka does not answer, what was found before stands."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        try:
            async with asyncio.timeout(PATIENCE):
                found = [(topic, await records_beyond(consumer, topic)) for topic in self._topics]
        except (KafkaError, TimeoutError) as error:
            log.warning("cannot see what is on added partitions", error=f"{type(error).__name__}: {error}")
            return
        self.incidents = [_incident(topic, count, int(now * 1000)) for topic, count in found if count]


def _incident(topic: Topic, count: int, now: int) -> Incident:
    reason = f"{count:,} records are on partitions from {topic.partitions} on"
    return Incident(kind="records_beyond", subject=topic.name, since=now, reason=reason)
