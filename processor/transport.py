"""How Faust hands us whole batches instead of single records.

Faust keeps the consumer, the group and the assignment; five of its habits are replaced (docs/decisions/0003): it
fetches only for lanes that have room, it yields all records of a partition as one message, it leaves aborted
transactions out, it shares out only the lanes there are, and it never commits an offset: only a lane's transaction
does. Written against faust-streaming 0.15.3; the base class is `faust.transport.consumer.Consumer`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import faust
import uvloop
from aiokafka.errors import IllegalStateError
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

from processor import fetches
from processor.fetches import Span
from processor.lanes import Lanes

fetches.install()

#: How long to wait for a lane to have room before looking again for a stop or a rebalance, in seconds.
ROOM_TIMEOUT = 0.5


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Reads what is committed, and also tells of offsets that it has read and that hold no record."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust ties it to transactions of its own. It counts from the consumer's start on.
        consumer._isolation_level = "read_committed"
        return consumer

    async def _fetch_records(
        self, consumer: Any, active_partitions: set[TP], timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        fetched: Any = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        found: dict[TP, Any] = dict(fetched)
        subscription = consumer._subscription.subscription
        assigned = subscription.assignment if subscription is not None else None
        if assigned is not None:
            for tp in active_partitions & assigned.tps:
                span = None if tp in found else fetches.skipped(assigned.state_value(tp))
                if span is not None:  # not "if span": it is empty
                    found[tp] = span
        return found

    def stuck(self) -> BaseException | None:
        """What keeps the consumer out of its group until somebody asks for it, which Faust never does."""
        coordinator: Any = self._consumer and self._consumer._coordinator
        if coordinator is None:
            return None
        task = coordinator._coordination_task
        failed: BaseException | None = task.exception() if task.done() and not task.cancelled() else None
        return failed or cast("BaseException | None", coordinator._pending_exception)


class BatchConsumer(driver.Consumer):
    """Yields one message per partition and fetch; its value is the span of records."""

    def _new_consumer_thread(self) -> Any:
        """Faust's, on uvloop: it reads and parses everything that arrives."""
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon, thread_loop=uvloop.new_event_loop())

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Fetch for the lanes that have room. A message carries the group's generation it was fetched in."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        generation = self.app.consumer_generation_id
        lanes = cast(BatchApp, self.app).lanes
        wanted = {tp for tp in self._get_active_partitions() if lanes.has_room(tp.partition)}
        if not wanted:
            # An empty set would mean every partition to aiokafka.
            await lanes.until_room(ROOM_TIMEOUT)
            return
        fetched: Mapping[TP, list[Any]] = await self._getmany(active_partitions=wanted, timeout=timeout)
        if self.should_stop or not fetched:
            return
        if not self.flow_active or generation != self.app.consumer_generation_id:
            # Fetched across a rebalance: forget it, and begin again where the partitions' owners have committed.
            await self.perform_seek()
            return
        for tp, records in fetched.items():
            # Faust drops what is before its last offset. If a log has lost its end, a lane has to know that.
            self._read_offset[tp] = None
            yield tp, _message(tp, fetches.span_of(records), generation)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Also where nothing is committed yet, which aiokafka leaves where it is: then to the oldest record."""
        committed: Mapping[TP, int] = await super().seek_to_committed()
        if untouched := [tp for tp, offset in committed.items() if not offset]:
            # Given away meanwhile: whoever has it now begins by itself.
            with contextlib.suppress(IllegalStateError):
                await self._thread.seek_to_beginning(*untouched)
        return committed

    def ack(self, message: Message) -> bool:
        """Take a message off Faust's books without making its offset committable."""
        message.acked = True
        self._unacked_messages.discard(message)
        return False

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: a batch is not a gap between its last record and the one before it."""


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = BatchConsumer


class LaneAssignor(PartitionAssignor):
    """Shares out the lanes there are. A partition that somebody added is nobody's, and takes no lane's place."""

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        partitions = cast(BatchApp, self.app).partitions
        return super()._perform_assignment(cast(Any, _Lanes(cluster, partitions)), member_metadata)


@dataclass(frozen=True, slots=True)
class _Lanes:
    """What Faust asks of a cluster when it assigns."""

    cluster: Any
    partitions: int

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {number for number in self.cluster.partitions_for_topic(topic) or () if number < self.partitions}


class BatchApp(faust.App):
    """A Faust app that consumes batches for lanes; set `lanes`, and how many there are, before it starts."""

    lanes: Lanes
    partitions: int

    def stuck(self) -> BaseException | None:
        """What keeps us out of the group though nothing is tried again; None while there is hope."""
        consumer: Any = self._consumer
        return None if consumer is None else cast(BatchConsumerThread, consumer._thread).stuck()

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker_consumer, self)


def credentials(options: Mapping[str, Any]) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """TLS and SASL as Faust takes them; it makes aiokafka's options of them again."""
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


class Untouched(faust.Schema[Any, Any]):
    """Passes keys and values through: the lane decodes them, and decides what an undecodable one means."""

    def loads_key(self, app: Any, message: Any, **options: Any) -> Any:
        """The key as it is."""
        return message.key

    def loads_value(self, app: Any, message: Any, **options: Any) -> Any:
        """The span of records as it is."""
        return message.value


def _message(tp: TP, records: Span, generation: int) -> Message:
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        records.end - 1,
        records[-1].timestamp / 1000.0 if records else time.time(),
        0,
        None,
        b"",
        records,  # type: ignore[arg-type]
        None,
        0,
        0,
        tp,
        generation_id=generation,
    )
