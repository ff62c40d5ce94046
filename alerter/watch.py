"""Reads what is wrong and has people told when it begins and when it is over.

A shell over aiokafka; incidents.py decides what is told, ledger.py what is wrong with the dead letters. All topics
are read from their beginning at every start, to the end before anything is told: letters are rare, the others
compacted. Of several alerters the one that leads tells; the others follow what it told, and go on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Gauge

from alerter import group_told, incidents
from alerter.channels import Channels
from alerter.group_told import GroupTold
from alerter.grouping import Grouping
from alerter.incidents import Board, News
from alerter.ledger import Ledger, Limits
from alerter.recoveries import Recoveries, Recovery
from alerter.strangers import Strangers
from alerter.summary import Alert
from pipeline import contract, deadletter, kafka, letters, security, topic_ids
from pipeline.errors import RecordsLost, Undecodable
from pipeline.letters import Place
from pipeline.settings import Settings
from pipeline.topics import Topics

log = structlog.get_logger(__name__)

#: Longest pass that has nothing to do, in seconds.
PASS_SECONDS = 0.5
#: How long a record may take to be written: alerts go out also while Kafka is away.
WRITE_SECONDS = 5.0
#: Seconds between two looks at all dead letters.
LOOK_SECONDS = 2.0
#: How long Kafka may take to tell which topics those are.
ASK_SECONDS = 1.0
#: What the ledger finds, and what `Strangers` does.
KINDS = ("letters_flood", "letters_waiting", "records_beyond")
#: How long it may take until a partition that somebody added is seen, in ms.
METADATA_AGE_MS = 30_000

#: A power cut with one replica, an unclean election, a restored disk.
LOST = "the log of the dead letters has lost its end; people are told again of what is on it"

#: Letters that were open are gone, and what was told says nothing of those that get their offsets.
REMADE = "the topic of the dead letters was deleted and made anew: letters that nobody had dealt with are lost"

INCIDENTS = Gauge(
    "postlog_alerter_incidents", "Incidents that last: open circuits, processors that stopped themselves"
)


class Watch:
    """`run` reads and tells until it is cancelled; `leads` says whether this alerter is the one who tells.

    caught_up  set when everything that is on the topics was read once
    """

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        to: Channels,
        groups: Grouping,
        *,
        leads: Callable[[], bool],
        clock: Callable[[], float],
        begin_again: Callable[[], None] = lambda: None,
    ) -> None:
        """begin_again  is called when the dead letters are another topic"""
        self._settings = settings
        self._topics = topics
        self._channels = to
        self._leads = leads
        self._begin_again = begin_again
        self._clock = clock
        self._board = Board(settings.alert_despam_seconds)
        self.caught_up = asyncio.Event()
        self._recovered: list[Recovery] = []
        self._look_at = 0.0
        self._ids: dict[str, str] = {}  # of the topics as they were read
        self._ids_at = 0.0
        self._ledger = Ledger(_limits(settings, topics))
        self._strangers = Strangers((topics.events, topics.dead_letters))
        self._recoveries = Recoveries(settings.alert_digest_seconds)
        self._take: dict[str, Callable[[ConsumerRecord], None]] = {
            topics.incidents.name: lambda r: self._board.note(r.partition, r.key, r.value),
            topics.alerts.name: self._remember,
            topics.dead_letters.name: lambda r: self._ledger.add(
                deadletter.read(r), Place(r.partition, r.offset), r.timestamp
            ),
            topics.letter_states.name: lambda r: self._ledger.note(
                r.key.decode(errors="replace"), None if r.value is None else letters.decode(r.value)
            ),
        }
        self._grouping = groups
        self._telling: set[asyncio.Task[None]] = set()
        self._producer = AIOKafkaProducer(**kafka.client_options(settings), enable_idempotence=True)

    async def note(self, record: GroupTold) -> None:
        """Write down what people were told of dead letters."""
        self._grouping.remember(record)
        self._recoveries.remember(record)
        await self._write(record.key, group_told.encode(record))

    async def run(self) -> None:
        """Work until cancelled. Raises KafkaError if Kafka refuses for good."""
        options = kafka.client_options(self._settings)
        consumer = AIOKafkaConsumer(
            **options,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=METADATA_AGE_MS,
        )
        try:
            await consumer.start()
            await self._producer.start()
            await self._follow(consumer)
        finally:
            await kafka.let_go(consumer, self._producer)

    def _remember(self, record: ConsumerRecord) -> None:
        if not record.key.startswith(group_told.GROUP.encode()):
            self._board.remember(record.key, record.value)
        elif record.value is not None:
            told = group_told.decode(record.value)
            self._grouping.remember(told)
            self._recoveries.remember(told)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        topics = (getattr(self._topics, role) for role in ("incidents", "alerts", "dead_letters", "letter_states"))
        places = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._strangers.run(consumer, self._clock))
            while True:
                await self._look_at_topics(consumer, places)
                await self._read(consumer)
                if ends and not [place for place, end in ends.items() if await consumer.position(place) < end]:
                    self._compare(ends)
                    ends = {}
                    self.caught_up.set()
                if self.caught_up.is_set():
                    self._look()
                if self.caught_up.is_set() and self._leads():
                    self._tell_what_is_due(tasks)

    async def _look_at_topics(self, consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> None:
        """See whether these are the topics that we began with. Raises RecordsLost if only a new start helps."""
        if self._clock() < self._ids_at:
            return
        self._ids_at = self._clock() + LOOK_SECONDS
        try:
            # Bounded: people are told also while Kafka does not answer.
            async with asyncio.timeout(ASK_SECONDS):
                ids = await topic_ids.of(consumer._client, {place.topic for place in places})
        except (KafkaError, TimeoutError) as error:
            log.debug("cannot see the topics", error=repr(error))
            return
        for name in topic_ids.remade(self._ids, ids):
            if name != self._topics.dead_letters.name:
                raise RecordsLost(f"{name} was deleted and made anew: starting again, to read it from its beginning")
            log.error(REMADE, topic=name)
            for number in range(self._topics.dead_letters.partitions):
                self._grouping.forget(number)
            self._ledger = Ledger(_limits(self._settings, self._topics))
            again = (name, self._topics.letter_states.name)
            await consumer.seek_to_beginning(*[place for place in places if place.topic in again])
            self._begin_again()
        self._ids |= ids

    def _compare(self, ends: Mapping[TopicPartition, int]) -> None:
        """Forget what was told of letters that are not on the log any more, before another gets their offset."""
        dead_letters = {tp.partition: end for tp, end in ends.items() if tp.topic == self._topics.dead_letters.name}
        for partition in self._grouping.beyond(dead_letters):
            log.error(LOST, partition=partition, end=dead_letters[partition])
            self._grouping.forget(partition)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        for records in (await consumer.getmany(timeout_ms=int(PASS_SECONDS * 1000))).values():
            for record in records:
                try:
                    self._take[record.topic](record)
                except Undecodable as error:
                    log.error(
                        "a record cannot be read; is this release too old?", topic=record.topic, reason=str(error)
                    )

    def _look(self) -> None:
        """Look at the dead letters as a whole; that walks over all of them, so not at every pass."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            beyond = self._strangers.incidents
            if beyond is None:  # Nobody could tell since the start: what people know stands.
                beyond = self._board.standing("records_beyond")
            self._board.hold(KINDS, [*self._ledger.conditions(int(now * 1000)), *beyond])
            if self._leads():
                self._recovered += self._recoveries.due(self._ledger, now)
        INCIDENTS.set(self._board.present)

    def _tell_what_is_due(self, tasks: asyncio.TaskGroup) -> None:
        telling = [self._tell(news) for news in self._board.due(self._clock())]
        telling += [self._tell_recovery(recovery) for recovery in self._recovered]
        self._recovered.clear()
        for each in telling:
            task = tasks.create_task(each)
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, news: News) -> None:
        async def note(waiting: frozenset[str]) -> None:
            if told := self._board.told(news, self._clock(), waiting):
                await self._write(news.incident.key, incidents.encode(told))

        if not await self._channels.tell(Alert((), (news,), news.to), note):
            log.error("no channel took an alert, nobody was told; trying again", incident=news.incident.kind)
            self._board.unsent(news)

    async def _tell_recovery(self, recovery: Recovery) -> None:
        async def note(waiting: frozenset[str]) -> None:
            if record := self._recoveries.told(recovery, waiting):
                await self.note(record)

        if not await self._channels.tell(Alert((), (recovery.news,), recovery.to), note):
            log.error("no channel took an alert, nobody was told; trying again", incident="letters_group")
            self._recoveries.unsent(recovery)

    async def _write(self, key: bytes, value: bytes) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                # By the file's count: the cluster may have partitions that nobody reads.
                topic = self._topics.alerts
                partition = contract.partition_of(key, topic.partitions)
                await self._producer.send_and_wait(topic.name, value, key=key, partition=partition)
        except (KafkaError, TimeoutError) as error:
            # People know; at worst the next start tells them once more.
            log.warning("what was told is not noted", error=str(security.denied(error) or repr(error)))


def _limits(settings: Settings, topics: Topics) -> Limits:
    return Limits(
        letters=settings.alert_flood_letters,
        window=int(settings.alert_flood_seconds * 1000),
        age=int(settings.alert_open_seconds * 1000),
        kept=int(topics.dead_letters.config["retention.ms"]),
    )
