"""Is it in Kafka? The producer, and how long we are willing to wait for it.

A shell over aiokafka. Idempotent, so its own retries neither double nor reorder; not transactional, because the
processor relies on contiguous offsets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingress import metrics
from ingress.accept import Outgoing
from pipeline import kafka
from pipeline.errors import KafkaUnavailable
from pipeline.settings import Settings
from pipeline.topics import Topics

log = structlog.get_logger(__name__)


class Log:
    """Between start and stop. `failed` is set once the producer cannot go on: then the process must end."""

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self.failed = asyncio.Event()
        self._names = {"events": topics.events.name, "dead_letters": topics.dead_letters.name}
        self._stop_seconds = settings.ingress_drain_seconds
        self._deadline = settings.ingress_deadline_seconds
        self._most = settings.ingress_max_pending
        self._pending = 0
        self._producer = AIOKafkaProducer(
            **kafka.client_options(settings),
            acks="all",
            enable_idempotence=True,
            max_batch_size=128 * 1024,
            max_request_size=kafka.LARGEST_REQUEST,
        )

    async def start(self) -> bool:
        """Connect, and learn where the topics' partitions are; True."""
        await self._producer.start()
        for name in self._names.values():
            await self._producer.partitions_for(name)
        return True

    async def stop(self) -> None:
        """Send what waits, then disconnect; within INGRESS_DRAIN_SECONDS.

        While Kafka does not answer an idempotent producer would try for ever. Nobody was told 200 for what is left.
        """
        stopping = asyncio.ensure_future(self._producer.stop())
        done, _ = await asyncio.wait([stopping], timeout=self._stop_seconds)
        if not done:
            log.warning("Kafka does not answer, leaving records unsent", events=self._pending)
            stopping.cancel()

    def ready(self) -> bool:
        """Whether we know where to write events."""
        cluster = self._producer.client.cluster
        return not self.failed.is_set() and bool(cluster.partitions_for_topic(self._names["events"]))

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return once every record is acknowledged by all in-sync replicas.

        Raises KafkaUnavailable if that is not known within the deadline. Some or all of the records may still get
        there: the provider sends the delivery again, and what came twice is dropped as a duplicate.
        """
        # One delivery that is larger than the limit still gets its turn alone.
        if self._pending and self._pending + len(records) > self._most:
            raise KafkaUnavailable(f"{self._pending} events are waiting for Kafka already")
        self._count(len(records))
        try:
            async with asyncio.timeout(self._deadline):
                await self._acknowledged(records)
        except TimeoutError:
            raise KafkaUnavailable(f"no acknowledgement within {self._deadline:g} s") from None
        except KafkaError as error:
            raise self._failure(error) from None
        finally:
            self._count(-len(records))

    async def _acknowledged(self, records: Sequence[Outgoing]) -> None:
        sent = [await self._send(record) for record in records]
        # Waited for, not awaited: being timed out must end our waiting, and not cancel the sending.
        if sent:
            await asyncio.wait(sent)
        for failure in [failure for future in sent if (failure := future.exception())]:
            raise failure

    async def _send(self, record: Outgoing) -> asyncio.Future[object]:
        future: asyncio.Future[object] = await self._producer.send(
            self._names[record.topic], key=record.key, value=record.value, headers=record.headers
        )
        # Retrieved here too, for when nobody waits any more.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    def _count(self, change: int) -> None:
        self._pending += change
        metrics.PENDING.set(self._pending)

    def _failure(self, error: BaseException) -> KafkaUnavailable:
        if not getattr(error, "retriable", False):
            # An idempotent producer that lost its place cannot go on without a risk of gaps or repeats.
            log.error("the producer failed, ending this process", error=repr(error))
            self.failed.set()
        return KafkaUnavailable(f"Kafka refused: {error!r}")
