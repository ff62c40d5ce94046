"""Reads the dead letters and has people told about them, also when nothing else of postlog runs.

A shell over aiokafka. grouping.py decides what is told when and what may be committed, channels.py sends.
An offset is committed after the notification went out, so a letter nobody was told of is read again after a crash.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Counter, Gauge

from alerter import group
from alerter.channels import Channels
from alerter.continuity import Continuity
from alerter.group_told import GroupTold
from alerter.grouping import OTHER, Grouping
from alerter.summary import Alert, Place, key_of
from alerter.watch import LOST
from pipeline import deadletter
from pipeline.deadletter import DeadLetter
from pipeline.errors import KafkaUnavailable
from pipeline.service import Health
from pipeline.topics import Topic

log = structlog.get_logger(__name__)

#: Longest pass of the loop that has nothing to do, in seconds.
PASS_SECONDS = 1.0
#: A loop that made no pass for this long is not live, in seconds.
LIVE_SECONDS = 30.0
#: How long a commit may take before the loop goes on without it: alerts go out also while Kafka is away.
COMMIT_SECONDS = 3.0
#: On SIGTERM, how long alerts on their way may take; what has not gone out then is told after the next start.
DRAIN_SECONDS = 5.0
MOST_RECORDS = 500
#: Distinct provider labels: the text comes from record headers.
MOST_PROVIDERS = 50

LETTERS = Counter("postlog_alerter_letters_total", "Dead letters read", ["stage", "type", "provider"])
HEARTBEAT = Gauge("postlog_alerter_heartbeat_timestamp_seconds", "When the loop last made a pass; alarm on its age")
UNSENT = Gauge("postlog_alerter_unsent_alerts", "Alerts handed to the channels that have not gone out")
UNTOLD = Gauge("postlog_alerter_untold_letters", "Dead letters that wait for an alert")
LAG = Gauge("postlog_alerter_lag", "Dead letters on the topic that were not read yet")


class Alerter(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The loop: read, group, hand over what is due, commit what has gone out."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        grouping: Grouping,
        to: Channels,
        clock: Callable[[], float],
        note: Callable[[GroupTold], Awaitable[None]],
        continuity: Continuity,
        name: str = "",
    ) -> None:
        """note writes a record of what was told; name is that of the consumer's group, for errors."""
        self._consumer = consumer
        self._grouping = grouping
        self._channels = to
        self._clock = clock
        self._note = note
        self._continuity = continuity
        self._partitions = 0  # of the dead letters, as topics.yaml says
        self._group = name
        self._assignment: frozenset[TopicPartition] = frozenset()
        self._committed: dict[TopicPartition, tuple[int, str]] = {}  # with what tells the last letter
        self._read: dict[TopicPartition, int] = {}  # offset after the last letter, of this assignment
        self._again = False
        self._telling: set[asyncio.Task[None]] = set()
        self._providers: set[str] = set()
        self._last_pass = clock()

    async def run(self, topic: Topic, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Any error of a task of ours ends it: raises ExceptionGroup."""
        self._partitions = topic.partitions
        self._consumer.subscribe([topic.name], listener=self)
        async with asyncio.TaskGroup() as tasks:
            sending = self._channels.start(tasks)
            while not stop.is_set():
                await self._pass(tasks)
            if self._telling:
                await asyncio.wait(self._telling, timeout=DRAIN_SECONDS)
            await self._commit()
            for task in (*sending, *self._telling):
                task.cancel()

    def begin_again(self) -> None:
        """The topic was made anew: read it from its beginning, whatever was read or committed."""
        self._again = True

    async def _pass(self, tasks: asyncio.TaskGroup) -> None:
        if self._again and self._assignment:
            self._again = False
            self._read.clear()
            self._committed.clear()
            self._continuity.begin(self._assignment)
            await self._consumer.seek_to_beginning(*self._assignment)
        await self._look_for_loss()
        try:
            fetched = await self._consumer.getmany(timeout_ms=self._patience(), max_records=MOST_RECORDS)
        except KafkaError as error:
            raise group.refusal(error, self._group) or error from error
        for tp, records in (await self._that_follow(fetched)).items():
            self._look_back(tp, records[0].offset)
            self._read[tp] = records[-1].offset + 1
            self._continuity.read(records[-1], self._clock())
            self._take(records)
        for alert in self._grouping.due(self._clock()):
            telling = tasks.create_task(self._tell(alert))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        await self._commit()
        self._last_pass = self._clock()
        HEARTBEAT.set_to_current_time()
        UNSENT.set(self._grouping.unsent_alerts)
        UNTOLD.set(self._grouping.untold_letters)

    def _ours(self, tp: TopicPartition) -> bool:
        """Not one that somebody added: nobody of us writes or lists letters there."""
        return bool(tp.partition < self._partitions)

    async def _look_for_loss(self) -> None:
        """Look at what is due. Nothing waits for it: alerts go out also while Kafka is away."""
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                looks = [self._goes_on(tp) for tp in self._continuity.due(self._clock())]
                for error in await asyncio.gather(*looks, return_exceptions=True):
                    if isinstance(error, BaseException):
                        raise error
        except (KafkaError, KafkaUnavailable, TimeoutError) as error:
            log.warning("cannot look at the dead letters, will try again", reason=f"{type(error).__name__}: {error}")

    async def _that_follow(
        self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Those letters that are ours, and of which it is known that they follow what was read."""
        assignment = self._assignment
        ours = {tp: records for tp, records in fetched.items() if self._ours(tp)}
        may = await asyncio.gather(*[self._may_take(tp, records[0].offset) for tp, records in ours.items()])
        if assignment is not self._assignment:
            return {}  # Whoever has the partitions now reads them again.
        return {tp: ours[tp] for tp, follows in zip(ours, may, strict=True) if follows}

    async def _may_take(self, tp: TopicPartition, offset: int) -> bool:
        """Whether letters from this offset on follow those that were read; while nobody can tell they wait."""
        if self._continuity.holds(tp, self._clock()):
            return True
        assignment = self._assignment
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                return await self._goes_on(tp)
        except (KafkaError, KafkaUnavailable, TimeoutError) as error:
            log.warning("letters wait until the log can be looked at", reason=f"{type(error).__name__}: {error}")
            if assignment is self._assignment:
                self._consumer.seek(tp, offset)
            return False

    async def _goes_on(self, tp: TopicPartition) -> bool:
        """Whether the log still has what was read of it. If it has not, it is read from its beginning.

        Raises KafkaError, KafkaUnavailable, TimeoutError if nobody can tell now.
        """
        problem = await self._continuity.look(tp, self._clock())
        if problem is None:
            return True
        log.error(LOST, partition=tp.partition, reason=problem)
        self._grouping.forget(tp.partition)
        self._read.pop(tp, None)
        await self._consumer.seek_to_beginning(tp)
        return False

    def _look_back(self, tp: TopicPartition, offset: int) -> None:
        """Where reading goes back, aiokafka has begun again at the oldest letter: the log ends before that."""
        if offset < self._read.get(tp, 0):
            log.error(LOST, partition=tp.partition, expected=self._read[tp], got=offset)
            self._grouping.forget(tp.partition)

    def _patience(self) -> int:
        next_at = self._grouping.next_at()
        wait = PASS_SECONDS if next_at is None else min(PASS_SECONDS, max(0.0, next_at - self._clock()))
        return math.ceil(wait * 1000)

    def _take(self, records: Iterable[ConsumerRecord]) -> None:
        now = self._clock()
        for record in records:
            letter = deadletter.read(record)
            self._count(letter)
            self._grouping.add(letter, Place(record.topic, record.partition, record.offset), now)

    def _count(self, letter: DeadLetter) -> None:
        key = key_of(letter)
        if len(self._providers) < MOST_PROVIDERS:
            self._providers.add(key.provider)
        provider = key.provider if key.provider in self._providers else OTHER
        LETTERS.labels(letter.stage, key.type, provider).inc()

    async def _tell(self, alert: Alert) -> None:
        async def note(waiting: frozenset[str]) -> None:
            for record in self._grouping.told(alert, waiting):
                await self._note(record)

        if not await self._channels.tell(alert, note):
            log.error("no channel took an alert, nobody was told; trying again", groups=len(alert.summaries))
            self._grouping.unsent(alert, self._clock())

    async def _commit(self) -> None:
        """Commit what has gone out. If Kafka is away the loop goes on: people are told, and later told again."""
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                offsets = await self._committable()
                if offsets:
                    await self._consumer.commit(offsets)
                    self._committed |= offsets
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets not committed, will try again", error=f"{type(error).__name__}: {error}")

    async def _committable(self) -> dict[TopicPartition, tuple[int, str]]:
        assignment = self._assignment
        # The consumer's position and not the last letter's: it also steps over the markers that end transactions.
        known = [tp for tp in assignment if self._continuity.knows(tp)]
        positions = {tp: await self._consumer.position(tp) for tp in known}
        if assignment is not self._assignment:
            return {}  # A rebalance came between: these positions are past letters that nobody holds back any more.
        LAG.set(sum(max(0, (self._consumer.highwater(tp) or 0) - position) for tp, position in positions.items()))
        offsets = self._grouping.committable({tp.partition: position for tp, position in positions.items()})
        found = {tp: (offset, self._continuity.metadata(tp)) for tp in known for offset in [offsets[tp.partition]]}
        return {tp: place for tp, place in found.items() if place != self._committed.get(tp)}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """aiokafka takes all partitions away at every rebalance, so everything untold will be read again."""
        self._assignment = frozenset()
        self._continuity.begin(())
        self._read.clear()
        self._grouping.reset()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._assignment = frozenset(filter(self._ours, assigned))
        self._continuity.begin(self._assignment)

    @property
    def leads(self) -> bool:
        """Whether it is the one of several alerters that tells what is not told by partition."""
        return any(place.partition == 0 for place in self._assignment)

    def live(self) -> Health:
        """Whether the loop makes passes."""
        age = self._clock() - self._last_pass
        return Health(age < LIVE_SECONDS, {"seconds_since_last_pass": round(age, 1)})

    def ready(self) -> Health:
        """Whether it reads any partition."""
        return Health(bool(self._assignment), {"partitions": len(self._assignment)})
