"""Is it in Kafka? The producer, and how long we are willing to wait for it.

A shell over aiokafka. Idempotent, so its own retries neither double nor reorder; not transactional, because the
processor relies on contiguous offsets. With a spool, what Kafka cannot take in time is kept on this machine's disk,
and from then on everything goes behind it, until the spool is empty again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingress import metrics
from ingress.accept import Outgoing
from ingress.batches import COPIES, Batches, weight
from ingress.drain import drain
from ingress.spool import Spool
from ingress.spooling import Limits
from pipeline import kafka, topic_ids
from pipeline.errors import KafkaUnavailable, PostlogError
from pipeline.settings import Settings
from pipeline.topics import Topics

log = structlog.get_logger(__name__)

#: Bytes of a batch at most: what waits for a partition goes at once, and the brokers take twice as much as one.
BATCH_BYTES = 512 * 1024
#: How long a broker may take for an answer, in ms, or twice the deadline: after that nobody waits for it any more.
REQUEST_TIMEOUT_MS = 5_000


class Log:
    """Between start and stop. `failed` is set once it cannot go on: then the process must end.

    error   what to end it with, once it failed
    reason  what that follows from
    """

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self.failed = asyncio.Event()
        self.error: PostlogError = KafkaUnavailable("the producer failed")
        self.reason: BaseException | None = None
        self._settings = settings
        self._topics = {"events": topics.events, "dead_letters": topics.dead_letters}
        self._stop_seconds = settings.ingress_drain_seconds
        self._deadline = settings.ingress_deadline_seconds
        self._most = settings.ingress_max_pending
        self._most_bytes = settings.ingress_max_pending_bytes
        self._spool: Spool | None = None
        self._connected = False
        self._background: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._producer = self._new_producer()
        self._batches = Batches(self._producer, self._topics, metrics.pending)

    async def start(self) -> bool:
        """Connect, and learn where the topics' partitions are; True. With a spool that is done in the background.

        Raises ConfigError if the spool cannot be used.
        """
        settings = self._settings
        if not settings.ingress_spool_dir:
            await self._connect()
            return True
        limits = Limits(
            size=settings.ingress_spool_max_bytes,
            age=settings.ingress_spool_max_seconds,
            waiting=settings.ingress_max_pending_bytes // COPIES,
        )
        folder = Path(settings.ingress_spool_dir)
        self._spool = await asyncio.to_thread(Spool, folder, settings.topic_prefix, limits)
        log.info("spool open", folder=str(folder), records=self._spool.rows, damaged=self._spool.damaged())
        self._background = asyncio.create_task(self._empty(self._spool))
        self._background.add_done_callback(self._background_ended)
        return True

    async def stop(self) -> None:
        """Send what waits, then disconnect; within INGRESS_DRAIN_SECONDS.

        While Kafka does not answer an idempotent producer would try for ever. Nobody was told 200 for what is left,
        but for what is in the spool: that is sent after the next start.
        """
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait([self._background])
        stopping = asyncio.ensure_future(self._flush_and_stop())
        done, _ = await asyncio.wait([stopping], timeout=self._stop_seconds)
        if not done:
            log.warning("Kafka does not answer, leaving records unsent", events=self._batches.pending)
            stopping.cancel()
        if self._spool is not None:
            if self._spool.rows:
                log.warning("records stay in the spool until the next start", records=self._spool.rows)
            await self._spool.close()

    async def _flush_and_stop(self) -> None:
        await self._batches.flushed()
        await self._producer.stop()

    def ready(self) -> bool:
        """Whether events can be kept: we know where to write them, or there is a spool."""
        return not self.failed.is_set() and (self._spool is not None or self.knows_topics())

    def spooled(self) -> dict[str, object]:
        """How many records the spool holds, and what in it people have to look at; empty without a spool."""
        if self._spool is None:
            return {}
        return {"spooled": self._spool.rows, "spool_damaged": self._spool.damaged()}

    def knows_topics(self) -> bool:
        """Whether we know where to write events."""
        return bool(self._producer.client.cluster.partitions_for_topic(self._topics["events"].name))

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return once every record is acknowledged by all in-sync replicas, or synced into the spool.

        Raises KafkaUnavailable if that is not known within the deadline. Some or all of the records may still get
        there: the provider sends the delivery again, and what came twice is dropped as a duplicate. The same holds
        for what is spooled after its deadline.
        """
        spool = self._spool
        if spool is None:
            await self._append(records)
            return
        # Behind what is spooled already, or it would overtake.
        if self._connected and not spool.filled.is_set():
            try:
                await self._append(records)
                return
            except KafkaUnavailable as error:
                log.debug("spooling", reason=str(error))
        await spool.append(records)

    async def _append(self, records: Sequence[Outgoing]) -> None:
        pending, held, size = self._batches.pending, self._batches.held, weight(records)
        # One delivery that is larger than the limits still gets its turn alone.
        if pending and (pending + len(records) > self._most or held + size > self._most_bytes):
            raise KafkaUnavailable(f"{pending} events are waiting for Kafka already, which take {held} bytes")
        acknowledged = self._batches.append(records, size)
        late = self._loop.call_later(self._deadline, self._give_up, acknowledged)
        try:
            in_time = await acknowledged
        except KafkaError as error:
            raise self._failure(error) from None
        finally:
            late.cancel()
            del acknowledged  # an error in it would keep this frame, and the delivery with it
        if not in_time:
            raise KafkaUnavailable(f"no acknowledgement within {self._deadline:g} s")

    def _give_up(self, acknowledged: asyncio.Future[bool]) -> None:
        """End the waiting, and not the sending."""
        # Not with an error: the future lives until Kafka answers, and with it all that the error's traceback names.
        if not acknowledged.done():
            acknowledged.set_result(False)

    async def _empty(self, spool: Spool) -> None:
        """Connect, however long that takes; then keep the spool empty."""
        while not self._connected:
            try:
                await kafka.require_topics(self._settings)
                await self._connect()
            except (KafkaUnavailable, KafkaError) as error:
                log.warning("Kafka is away, deliveries go into the spool", reason=str(error))
                await self._producer.stop()
                self._producer = self._new_producer()
                self._batches = Batches(self._producer, self._topics, metrics.pending)
        await drain(spool, self._producer, self._topics)

    async def _connect(self) -> None:
        await self._producer.start()
        for topic in self._topics.values():
            await self._producer.partitions_for(topic.name)
        self._connected = True

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("what is in the spool cannot be sent, ending this process", error=repr(error))
            self.error = error if isinstance(error, PostlogError) else KafkaUnavailable(f"Kafka refused: {error!r}")
            self.reason = error
            self.failed.set()

    def _new_producer(self) -> AIOKafkaProducer:
        timeout = max(REQUEST_TIMEOUT_MS, int(2000 * self._deadline))
        return AIOKafkaProducer(
            **kafka.client_options(self._settings, request_timeout_ms=timeout),
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=kafka.LARGEST_REQUEST,
            # Who sends nothing must notice, too, that a topic is there again: it is not ready meanwhile.
            metadata_max_age_ms=topic_ids.LOOK_MS,
        )

    def _failure(self, error: BaseException) -> KafkaUnavailable:
        if not getattr(error, "retriable", False):
            # An idempotent producer that lost its place cannot go on without a risk of gaps or repeats.
            log.error("the producer failed, ending this process", error=repr(error))
            self.reason = error
            self.failed.set()
        return KafkaUnavailable(f"Kafka refused: {error!r}")
