"""Follows the suppressions topic into the store.

A shell over aiokafka; `lookup.progress` holds the rules. It reads every partition itself, without a consumer group,
committed records only, and keeps its positions with the rows. Whatever disturbs it ends its session with Kafka; the
next one begins by checking that the log still continues what we hold. If not, the list is rebuilt, and nothing is
answered meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn

import prometheus_client
import stamina
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from lookup import answers, progress
from lookup.connection import Log, out_of_sight
from lookup.progress import Again, Extent, Goal, Place, Progress
from lookup.store import Store
from pipeline.contract import Record
from pipeline.errors import KafkaUnavailable, StoreBroken, TopicsMismatch
from pipeline.service import Health
from pipeline.topics import Topic

log = structlog.get_logger(__name__)

#: Records applied in one write batch: a few milliseconds in which the API waits.
SLICE = 1000
#: How long one read waits for records, in ms; one that comes is handed out at once.
WAIT_MS = 250
#: How often, and how long at most, we ask Kafka where the log ends, in seconds.
LOOK_EVERY = 1.0
LOOK_TIMEOUT = 5.0
#: Claims that are counted.
MOST_CLAIMS = 1000
#: How often progress is kept though no record came, in ms.
KEEP_EVERY = 60_000

APPLIED = prometheus_client.Counter("postlog_lookup_records_applied", "records of the suppressions topic applied")
UNREADABLE = prometheus_client.Counter(
    "postlog_lookup_records_unreadable", "records of the suppressions topic that cannot be read"
)
REBUILDS = prometheus_client.Counter("postlog_lookup_rebuilds", "times the local list was begun from the beginning")
LAG = prometheus_client.Gauge("postlog_lookup_lag", "offsets between the local list and the end of the topic")


class Follower:
    """Keeps the store as the topic says, and knows how well it does.

    connect          opens a consumer that is assigned nothing yet
    tombstones_last  ms for which the topic keeps a tombstone at least
    stall_seconds    behind and without progress this long is not live
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Log]],
        store: Store,
        topic: Topic,
        *,
        tombstones_last: int,
        stall_seconds: float,
    ) -> None:
        self._connect = connect
        self._store = store
        self._topic = topic
        self._partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        self._tombstones_last = tombstones_last
        self._stall_seconds = stall_seconds
        self._progress = Progress(as_of=0, places={})
        self._kept_as_of = 0
        self._positions: dict[int, int] = {}
        self._goal: Goal | None = None
        self._lag = 0
        self._looked = 0.0
        self._in_sight = False
        self._moved = time.monotonic()
        self._claims = store.claims(1) > 0
        self._lost = ""
        self.caught_up = False

    @property
    def lost(self) -> bool:
        """Whether the topic lacks what this list knew."""
        return bool(self._lost)

    async def run(self) -> None:
        """Follow for good, however often Kafka goes away.

        Raises TopicsMismatch, StoreBroken, and what waiting does not mend.
        """
        async for attempt in stamina.retry_context(on=out_of_sight, attempts=None, timeout=None, wait_max=2.0):
            with attempt:
                try:
                    await self._session()
                finally:
                    self._in_sight = False

    def live(self) -> Health:
        """Not live if the topic is ahead of us and we do not get on: a restart may help."""
        return Health(not self._stalled(), {"lag": self._lag, "idle_seconds": round(self._idle(), 1)})

    def ready(self) -> Health:
        """Ready once caught up, and also while Kafka is away: what we hold is the latest that anybody can know."""
        details = {
            "caught_up": self.caught_up,
            **({"lost": self._lost} if self._lost else {}),
            "complete_as_of": answers.rfc3339(self._progress.as_of) if self.caught_up else None,
            "lag": self._lag,
            "kafka": "in sight" if self._in_sight else "out of sight; answering from the local list",
        }
        return Health(self.caught_up and not self._stalled(), details)

    async def _session(self) -> None:
        async with self._connect() as consumer:
            consumer.assign(self._partitions)
            await self._resume(consumer)
            await self._follow(consumer)

    async def _resume(self, consumer: Log) -> None:
        """Stand where the store stands, or at the beginning if the log does not continue what it holds."""
        kept = self._store.progress()
        extents = await self._extents(consumer, kept.places if kept else {})
        again = progress.why_start_over(kept, extents, now=_now(), tombstones_last=self._tombstones_last)
        if kept is None or again:
            await self._start_over(again or Again("there is no local list yet"))
        else:
            log.info("continuing the local list", topic=self._topic.name, rows=self._store.rows())
            self._progress = kept
        for partition in self._partitions:
            place = self._progress.places.get(partition.partition)
            consumer.seek(partition, place.next if place else extents[partition.partition].beginning)
        self._goal = None
        self._looked = 0.0

    async def _start_over(self, again: Again) -> None:
        self.caught_up = False
        if again.lost:
            # What we hold may be nowhere else any more: nothing is answered until the log says all of it again.
            self._claims = True
            after = self._store.claim(b"", SLICE)
            while after:
                await asyncio.sleep(0)
                after = self._store.claim(after, SLICE)
        self._progress = Progress(as_of=_now(), places={})
        self._store.clear(self._progress)
        REBUILDS.inc()
        log.warning("reading the list from the beginning", topic=self._topic.name, reason=again.reason)

    async def _extents(self, consumer: Log, places: Mapping[int, Place]) -> dict[int, Extent]:
        """What the log holds."""
        beginnings = await consumer.beginning_offsets(self._partitions)
        ends = await consumer.end_offsets(self._partitions)
        known = [partition for partition in self._partitions if partition.partition in places]
        newer = await consumer.offsets_for_times({p: progress.newer_than(places[p.partition]) for p in known})
        await self._require_nothing_beyond(consumer)
        return {
            partition.partition: Extent(beginnings[partition], ends[partition], getattr(found, "offset", None))
            for partition in self._partitions
            for found in [newer.get(partition)]
        }

    async def _require_nothing_beyond(self, consumer: Log) -> None:
        """Partitions that somebody added say nothing. Raises TopicsMismatch if entries are on them all the same."""
        name, count = self._topic.name, self._topic.partitions
        there = consumer.partitions_for_topic(name) or set()
        beyond = [TopicPartition(name, number) for number in sorted(there) if number >= count]
        ends = await consumer.end_offsets(beyond) if beyond else {}
        if written := [partition.partition for partition, end in ends.items() if end]:
            raise TopicsMismatch(
                f"{name} has records in partition {written[-1]}, and topics.yaml says {count} partitions: what they "
                "say is not known here. postlog topics check says what to do"
            )

    async def _follow(self, consumer: Log) -> NoReturn:
        """Read on. Raises if Kafka is out of sight, or the log has left us."""
        while True:
            if self._store.broken:  # a question met the damage
                raise StoreBroken(f"{self._store.path} cannot be read: the next start reads the list from Kafka")
            if consumer.partitions_for_topic(self._topic.name) is None:
                # Hanging up spares the broker: aiokafka would ask for the topic thousands of times a second.
                raise KafkaUnavailable(
                    f"{self._topic.name} is gone. postlog topics apply makes it anew, empty; after that "
                    "postlog state write-back brings back what it held, or postlog replay --rebuild works it out "
                    "again: docs/operations.md"
                )
            if time.monotonic() - self._looked >= LOOK_EVERY:
                await self._look(consumer)
            try:
                fetched = await consumer.getmany(timeout_ms=WAIT_MS, max_records=SLICE)
            except OffsetOutOfRangeError as error:
                # The next session looks what has become of the log.
                raise KafkaUnavailable(f"our position is not in the log any more: {error}") from None
            if fetched:
                self._apply(fetched)
            await self._note_positions(consumer)
            # Prefetched records come without any waiting, and the API must have its turn.
            await asyncio.sleep(0)

    async def _look(self, consumer: Log) -> None:
        """Ask Kafka where the log ends."""
        now = _now()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                ends = await consumer.end_offsets(self._partitions)
                await self._require_nothing_beyond(consumer)
        except TimeoutError:
            raise KafkaUnavailable(
                f"no word from Kafka for {LOOK_TIMEOUT:g} s, at which offsets the log ends"
            ) from None
        self._looked = time.monotonic()
        by_number = {partition.partition: end for partition, end in ends.items()}
        await self._note_positions(consumer)
        self._lag = progress.lag(by_number, self._positions)
        LAG.set(self._lag)
        if not self._lag or not self._in_sight:
            # Waiting is no standstill: neither at the end of the log, nor for Kafka.
            self._moved = time.monotonic()
        self._in_sight = True
        self._goal = self._goal or Goal(now, by_number)

    async def _note_positions(self, consumer: Log) -> None:
        """See how far we are. Reading can move without a record: over control records and aborted ones."""
        positions = {each.partition: await consumer.position(each) for each in self._partitions}
        if positions != self._positions:
            self._positions = positions
            self._moved = time.monotonic()
        if self._goal and progress.reached(self._goal, positions):
            self._progress = Progress(self._goal.at, self._progress.places)
            self._goal = None
            if not self.caught_up:
                self._see_whether_whole()
            if self._progress.as_of - self._kept_as_of >= KEEP_EVERY:
                self._keep({})

    def _see_whether_whole(self) -> None:
        """At the end of the log: answer from now on, unless it lacks what we knew before."""
        if not self._claims or not (claims := self._store.claims(MOST_CLAIMS)):
            self._claims = False
            self._lost = ""
            self.caught_up = True
            log.info("caught up", topic=self._topic.name, rows=self._store.rows())
            return
        lost = progress.lost(self._topic.name, claims, MOST_CLAIMS, str(self._store.path))
        if lost != self._lost:
            log.error("the topic lacks what this list knows", topic=self._topic.name, reason=lost)
        self._lost = lost

    def _apply(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> None:
        rows: dict[bytes, bytes | None] = {}
        confirmed: set[bytes] = set()
        places = dict(self._progress.places)
        for partition, records in fetched.items():
            for key, row in self._rows(partition, records):
                rows[key] = row
                if self._claims and row is not None and answers.listed(True, row):
                    confirmed.add(key)
            number = partition.partition
            places[number] = progress.advanced(places.get(number), records[-1].offset, (r.timestamp for r in records))
        self._progress = Progress(self._progress.as_of, places)
        self._keep(rows, confirmed)
        APPLIED.inc(sum(map(len, fetched.values())))

    def _keep(self, rows: Mapping[bytes, bytes | None], confirmed: Iterable[bytes] = ()) -> None:
        self._store.apply(rows, self._progress, confirmed)
        self._kept_as_of = self._progress.as_of

    def _rows(self, partition: TopicPartition, records: Iterable[Record]) -> Iterable[tuple[bytes, bytes | None]]:
        """The rows that records make, None for one that goes; what cannot be read is told."""
        for record in records:
            row = answers.row(record.key, record.value)
            if row.reason:
                UNREADABLE.inc()
                where = {"topic": partition.topic, "partition": partition.partition, "offset": record.offset}
                log.error("record cannot be read", **where, reason=row.reason)
            if row.key is not None:
                yield row.key, row.value

    def _idle(self) -> float:
        return time.monotonic() - self._moved

    def _stalled(self) -> bool:
        return progress.stalled(lag=self._lag, in_sight=self._in_sight, idle=self._idle(), limit=self._stall_seconds)


def _now() -> int:
    return int(time.time() * 1000)
