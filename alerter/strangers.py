"""Records that somebody else wrote to partitions which topics.yaml does not know: nobody reads them.

A shell: it asks Kafka how many there are, now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.incidents import Incident
from pipeline.live import records_beyond
from pipeline.topics import Topic

log = structlog.get_logger(__name__)

#: Seconds between two looks, after one that Kafka did not answer, and how long one may take: what is asked waits
#: behind fetches, which take half a second each while nothing comes.
LOOK_SECONDS, AGAIN_SECONDS, PATIENCE = 30.0, 2.0, 10.0


class Strangers:
    """incidents  what is there, by the last look; None before the first one that Kafka answered"""

    def __init__(self, topics: Iterable[Topic]) -> None:
        self.incidents: list[Incident] | None = None
        self._topics = list(topics)

    async def run(self, consumer: AIOKafkaConsumer, clock: Callable[[], float]) -> None:
        """Look now and then, until cancelled."""
        while True:
            answered = await self.look(consumer, clock())
            await asyncio.sleep(LOOK_SECONDS if answered else AGAIN_SECONDS)

    async def look(self, consumer: AIOKafkaConsumer, now: float) -> bool:
        """Look once; now is in seconds. False: Kafka does not answer, and what was found before stands."""
        try:
            async with asyncio.timeout(PATIENCE):
                found = [(topic, await records_beyond(consumer, topic)) for topic in self._topics]
        except (KafkaError, TimeoutError) as error:
            log.warning("cannot see what is on added partitions", error=f"{type(error).__name__}: {error}")
            return False
        self.incidents = [_incident(topic, count, int(now * 1000)) for topic, count in found if count]
        return True


def _incident(topic: Topic, count: int, now: int) -> Incident:
    reason = f"{count:,} records are on partitions from {topic.partitions} on"
    return Incident(kind="records_beyond", subject=topic.name, since=now, reason=reason)
