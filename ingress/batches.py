"""Which records go to Kafka together, and who waits for them.

A shell over aiokafka. What comes while Kafka is busy with something waits, and goes as one batch a partition when
that is acknowledged: so batches grow with the load, and a delivery that comes alone goes at once. A partition has one
batch under way at a time, in the order in which its records came; one that is slow, or has no leader, holds up no
other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import randrange
from typing import Any

from aiokafka import AIOKafkaProducer

from ingress.accept import Outgoing
from pipeline.contract import partition_of
from pipeline.errors import KafkaUnavailable
from pipeline.topics import Topic

#: How long what comes waits for the answer to what went before, in seconds. Kafka takes a few ms; whoever waits for
#: a partition that is without a leader must not hold up the others.
PATIENCE = 0.02
#: Copies of a record that are held while it waits: the body it came in, what the reader took out of that, the record
#: itself, its place in a batch. After the deadline fewer are.
COPIES = 4
#: Bytes that a record takes besides its value: key, headers, objects.
AROUND = 256
#: Turns of the event loop for which what comes is collected: so many a delivery that has arrived takes until it is
#: appended. An idle loop makes them in no time.
TURNS = 4


class Batches:
    """Between start and stop of the producer.

    pending  records that Kafka has not acknowledged yet
    held     bytes of memory that their deliveries take, see `weight`
    """

    def __init__(
        self, producer: AIOKafkaProducer, topics: Mapping[str, Topic], counted: Callable[[int, int], None]
    ) -> None:
        """topics by role; `counted` is told `pending` and `held` whenever they change."""
        self.pending = self.held = 0
        self._producer = producer
        self._lanes = {
            role: [_Lane(topic.name, number) for number in range(topic.partitions)] for role, topic in topics.items()
        }
        self._counted = counted
        self._loop = asyncio.get_running_loop()
        self._ready: dict[_Lane, None] = {}  # a set that keeps its order
        self._handing: set[asyncio.Task[None]] = set()
        self._next: asyncio.Handle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def append(self, records: Sequence[Outgoing], size: int) -> asyncio.Future[bool]:
        """Put the records of a delivery behind what waits; the future is done when Kafka has all of them.

        size  their weight

        It is True then. It fails with aiokafka's error if Kafka did not take one of them. It may be cancelled,
        or be given another result: the records are sent all the same.
        """
        ticket = _Ticket(self._loop.create_future(), size)
        for record in records:
            lanes = self._lanes[record.topic]
            lane = lanes[place_of(record.key, len(lanes))]
            lane.put(record, ticket, self._producer)
            self._ready[lane] = None
        if not ticket.open:
            ticket.done.set_result(True)
            return ticket.done
        self._count(len(records), size)
        if self._next is None:
            self._next = self._loop.call_soon(self._turn, TURNS)
        return ticket.done

    async def flushed(self) -> None:
        """Wait until nothing waits any more."""
        await self._idle.wait()

    def _send(self) -> None:
        """Send the first batch of every partition that has none under way; then wait for an answer."""
        ready, self._ready = self._ready, {}
        taken = [(lane, lane.take()) for lane in ready if lane.waiting and not lane.under_way]
        self._next = self._loop.call_later(PATIENCE, self._answered)
        if taken:
            task = self._loop.create_task(self._hand_over(taken))
            self._handing.add(task)
            task.add_done_callback(self._handing.discard)

    async def _hand_over(self, taken: Sequence[tuple[_Lane, _Batch]]) -> None:
        """Give batches to the producer, which has room for one of each partition."""
        for lane, batch in taken:
            ended = partial(self._ended, lane, batch)
            try:
                sent = await self._producer.send_batch(batch.builder, lane.topic, partition=lane.number)
            except Exception as error:
                ended(_failed(self._loop, error))
            else:
                sent.add_done_callback(ended)

    def _ended(self, lane: _Lane, batch: _Batch, sent: asyncio.Future[object]) -> None:
        """Kafka has a batch, or does not take it."""
        failure = KafkaUnavailable("the producer was stopped") if sent.cancelled() else sent.exception()
        lane.under_way = False
        # A delivery weighs what it weighs until the last of its batches has ended.
        released = sum([ticket.size for ticket in batch.tickets if ticket.settle(failure)])
        self._count(-batch.builder.record_count(), -released)
        if lane.waiting:
            self._ready[lane] = None
        self._answered()

    def _answered(self) -> None:
        """Send what came meanwhile, once everybody who was answered at the same time has been told."""
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_soon(self._turn, TURNS) if self._ready else None

    def _turn(self, left: int) -> None:
        """Let those have their turn who are about to append something."""
        if left:
            self._next = self._loop.call_soon(self._turn, left - 1)
        else:
            self._send()

    def _count(self, records: int, size: int) -> None:
        self.pending += records
        self.held += size
        self._counted(self.pending, self.held)
        if self.pending:
            self._idle.clear()
        else:
            self._idle.set()


def weight(records: Sequence[Outgoing]) -> int:
    """Bytes of memory that a delivery takes while its records wait."""
    size = AROUND * len(records)
    for record in records:
        size += len(record.value)
        if record.topic == "dead_letters":  # an event's headers are short, or texts out of its value
            size += sum(len(value) for _, value in record.headers)
    return COPIES * size


def _failed(loop: asyncio.AbstractEventLoop, error: Exception) -> asyncio.Future[object]:
    future: asyncio.Future[object] = loop.create_future()
    future.set_exception(error)
    return future


def place_of(key: bytes | None, partitions: int) -> int:
    """The partition for a record; any for one that has no key."""
    return randrange(partitions) if key is None else partition_of(key, partitions)


class _Ticket:
    """A delivery that waits for its batches.

    open  of them that are not acknowledged yet
    size  its weight
    """

    __slots__ = ("done", "failure", "open", "size")

    def __init__(self, done: asyncio.Future[bool], size: int) -> None:
        self.done = done
        self.size = size
        self.open = 0
        self.failure: BaseException | None = None

    def settle(self, failure: BaseException | None) -> bool:
        """One of its batches is acknowledged, or failed; whether that was the last one."""
        self.open -= 1
        self.failure = self.failure or failure
        if self.open:
            return False
        if not self.done.done():
            if self.failure is None:
                self.done.set_result(True)
            else:
                self.done.set_exception(self.failure)
        return True


class _Batch:
    """Records that go together, and who waits for them."""

    __slots__ = ("builder", "tickets")

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.tickets: list[_Ticket] = []


class _Lane:
    """What waits for a partition, in order."""

    __slots__ = ("number", "topic", "under_way", "waiting")

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.waiting: deque[_Batch] = deque()
        self.under_way = False

    def put(self, record: Outgoing, ticket: _Ticket, producer: AIOKafkaProducer) -> None:
        if not self.waiting or not self._fits(self.waiting[-1], record):
            self.waiting.append(_Batch(producer.create_batch()))
            self._fits(self.waiting[-1], record)  # the first always does
        tickets = self.waiting[-1].tickets
        if not tickets or tickets[-1] is not ticket:
            tickets.append(ticket)
            ticket.open += 1

    def take(self) -> _Batch:
        """The first batch, closed: what comes from now on belongs to the next one."""
        self.under_way = True
        batch = self.waiting.popleft()
        batch.builder.close()
        return batch

    @staticmethod
    def _fits(batch: _Batch, record: Outgoing) -> bool:
        added = batch.builder.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
        return added is not None
