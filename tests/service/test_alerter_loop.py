"""The alerter's loop on a consumer in memory: what is told, and what is committed when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, InvalidSessionTimeoutError, KafkaError
from prometheus_client import REGISTRY

from alerter import channels, continuity, loop
from alerter.continuity import Continuity
from alerter.group_told import GroupTold
from alerter.grouping import Grouping, Policy
from alerter.loop import Alerter
from alerter.message import Message
from alerter.services import Service
from alerter.watch import Watch
from pipeline import contract, deadletter, last_read, topics
from pipeline.errors import ConfigError, KafkaUnavailable, NoRecipient, among
from pipeline.last_read import Last
from pipeline.settings import Settings

SECONDS = 10.0
TOPIC = "email-events.dlq"
LETTERS = msgspec.structs.replace(topics.load(topics.default_file()).dead_letters, partitions=2)
#: Windows that end at once, and windows that do not end while a test runs.
HASTY, CALM = Policy(digest=0.001, despam=0.001), Policy(digest=3600.0, despam=3600.0)
ONE, TWO = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
#: Beyond what topics.yaml says.
ADDED = TopicPartition(TOPIC, 2)


@dataclass
class Record:
    topic: str
    partition: int
    offset: int
    headers: list[tuple[str, bytes]]
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None


@dataclass
class Consumer:
    """The part of aiokafka's consumer that the loop uses, with a topic of two partitions in memory."""

    positions: dict[TopicPartition, int] = field(default_factory=lambda: {ONE: 0, TWO: 0})
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    commits: list[dict[TopicPartition, tuple[int, str]]] = field(default_factory=list)
    metadata: dict[TopicPartition, str] = field(default_factory=dict)
    begun_anew: list[TopicPartition] = field(default_factory=list)
    waiting: list[Record] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Condition = field(default_factory=asyncio.Condition)
    passes: int = 0
    refuse: bool = False
    outside: KafkaError | None = None
    while_asked_for_positions: Callable[[], None] = lambda: None
    listener: Any = None

    def subscribe(self, topics: list[str], listener: Any) -> None:
        assert topics == [TOPIC]
        self.listener = listener
        listener.on_partitions_assigned([ONE, TWO])

    def produce(self, event_type: str, tp: TopicPartition = ONE) -> None:
        offset = self.positions[tp] + sum(record.partition == tp.partition for record in self.waiting)
        added = deadletter.headers(NoRecipient("data.email: missing"), stage="ingress", now=0)
        added += [(contract.HEADER_TYPE, event_type.encode()), (contract.HEADER_PROVIDER, b"nexuspromail")]
        self.waiting.append(Record(tp.topic, tp.partition, offset, added))
        self.came.set()

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        async with self.asked:
            self.passes += 1
            self.asked.notify_all()
        if self.outside:
            raise self.outside
        try:
            await asyncio.wait_for(self.came.wait(), timeout_ms / 1000)
        except TimeoutError:
            return {}
        self.came.clear()
        records, self.waiting = self.waiting, []
        fetched: dict[TopicPartition, list[Record]] = {}
        for record in records:
            tp = TopicPartition(record.topic, record.partition)
            fetched.setdefault(tp, []).append(record)
            self.positions[tp] = record.offset + 1
        return fetched

    async def position(self, tp: TopicPartition) -> int:
        self.while_asked_for_positions()
        return self.positions[tp]

    def highwater(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        if self.refuse:
            raise CommitFailedError("no")
        self.committed |= {tp: offset for tp, (offset, _) in offsets.items()}
        self.metadata |= {tp: metadata for tp, (_, metadata) in offsets.items()}
        self.commits.append(offsets)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        self.positions |= dict.fromkeys(partitions, 0)
        self.begun_anew += partitions


@dataclass
class Kafka:
    """What the alerter asks of the log: the metadata of offsets, and whether what it says was lost."""

    metadata: dict[TopicPartition, str] = field(default_factory=dict)
    lost: bool = False
    away: bool = False
    asked: list[int] = field(default_factory=list)

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, str]:
        return {tp: self.metadata.get(tp, "") for tp in partitions}

    async def replaced(self, partition: TopicPartition, last: Last) -> str | None:
        if self.away:
            raise KafkaUnavailable("away")
        self.asked.append(last.offset)
        return "another record stands there" if self.lost else None


class Place:
    """A channel's other end: takes a message when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.titles: asyncio.Queue[str] = asyncio.Queue()
        self.error: Exception | None = None

    async def send(self, text: Message) -> bool:
        self.titles.put_nowait(text.title)
        await self.open.wait()
        if self.error:
            raise self.error
        return True

    async def title(self) -> str:
        return await asyncio.wait_for(self.titles.get(), SECONDS)


@dataclass
class Running:
    consumer: Consumer
    place: Place
    alerter: Alerter
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def passed(self) -> None:
        """Until the loop has made a whole pass."""
        consumer = self.consumer
        until = consumer.passes + 2
        async with asyncio.timeout(SECONDS), consumer.asked:
            while consumer.passes < until:
                consumer.came.set()
                await consumer.asked.wait()

    async def stopped(self) -> None:
        self.stop.set()
        await asyncio.wait_for(asyncio.shield(self.task), SECONDS)


@asynccontextmanager
async def running(
    policy: Policy = CALM, clock: Callable[[], float] = time.monotonic, kafka: Kafka | None = None
) -> AsyncIterator[Running]:
    consumer, place, stop = Consumer(), Place(), asyncio.Event()
    to = channels.over([Service("1", "memory", place.send)], 0.01)
    alerter = Alerter(consumer, Grouping(policy), to, clock, _unnoted, Continuity(kafka or Kafka()), "group")
    task = asyncio.ensure_future(alerter.run(LETTERS, stop))
    try:
        yield Running(consumer, place, alerter, stop, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_offset_is_committed_after_its_alert_went_out_and_not_before() -> None:
    async with running() as found:
        found.place.open.clear()
        found.consumer.produce("hard_bounce")
        assert await found.place.title() == "postlog: 1 dead letter, hard_bounce, nexuspromail: NoRecipient"
        await found.passed()
        assert found.consumer.committed[ONE] == 0
        found.place.open.set()
        await found.passed()
        assert found.consumer.committed[ONE] == 1


async def test_a_letter_that_waits_for_its_digest_holds_back_its_partition_alone() -> None:
    async with running() as found:
        found.consumer.produce("opened", ONE)
        found.consumer.produce("hard_bounce", ONE)
        found.consumer.produce("hard_bounce", TWO)
        await found.place.title()
        await found.passed()
        assert found.consumer.committed == {ONE: 0, TWO: 1}


async def test_what_is_on_a_partition_that_somebody_added_is_neither_told_nor_committed() -> None:
    async with running() as found:
        await found.passed()
        found.consumer.positions[ADDED] = 0
        found.consumer.listener.on_partitions_revoked([ONE, TWO])
        found.consumer.listener.on_partitions_assigned([ONE, TWO, ADDED])
        found.consumer.produce("hard_bounce", ADDED)
        await found.passed()
        found.consumer.produce("complaint", ONE)
        assert "complaint" in await found.place.title()
        await found.passed()
        assert found.consumer.committed == {ONE: 1, TWO: 0}


async def test_a_digest_is_told_without_a_further_letter() -> None:
    async with running(HASTY) as found:
        found.consumer.produce("opened")
        assert "opened" in await found.place.title()
        await found.passed()
        assert found.consumer.committed[ONE] == 1


async def test_an_alert_that_no_channel_took_is_tried_again_until_one_does() -> None:
    async with running(HASTY) as found:
        found.place.error = ConnectionError("away")
        found.consumer.produce("hard_bounce")
        for _ in range(3):  # The channel gives up after the second.
            await found.place.title()
        await found.passed()
        assert found.consumer.committed[ONE] == 0
        found.place.error = None
        async with asyncio.timeout(SECONDS):
            while found.consumer.committed[ONE] != 1:
                await found.passed()


async def test_positions_of_partitions_that_were_taken_away_are_not_committed() -> None:
    async with running() as found:
        consumer = found.consumer
        await found.passed()

        def nothing() -> None: ...

        def rebalance() -> None:
            consumer.listener.on_partitions_revoked([ONE, TWO])
            consumer.positions = {ONE: 0, TWO: 0}
            consumer.listener.on_partitions_assigned([ONE, TWO])

        consumer.produce("opened", ONE)
        consumer.produce("opened", TWO)
        # After the loop asked for one partition's position, and before it has the other's.
        calls = iter([nothing, rebalance])
        consumer.while_asked_for_positions = lambda: next(calls, nothing)()
        await found.passed()
        assert next(calls, None) is None
        assert all(offset == 0 for offsets in consumer.commits for offset, _ in offsets.values())


async def test_letters_that_are_read_again_after_a_rebalance_are_counted_once() -> None:
    async with running() as found:
        found.consumer.produce("opened")
        await found.passed()
        found.consumer.listener.on_partitions_revoked([ONE, TWO])
        found.consumer.positions[ONE] = 0
        found.consumer.listener.on_partitions_assigned([ONE, TWO])
        found.consumer.produce("opened")
        await found.passed()
        assert REGISTRY.get_sample_value("postlog_alerter_untold_letters") == 1
        assert found.consumer.committed[ONE] == 0


async def test_a_commit_that_fails_stops_no_alert_and_is_tried_again() -> None:
    async with running() as found:
        found.consumer.refuse = True
        found.consumer.produce("hard_bounce")
        await found.place.title()
        await found.passed()
        found.consumer.produce("complaint")
        assert "complaint" in await found.place.title()
        found.consumer.refuse = False
        await found.passed()
        assert found.consumer.committed[ONE] == 2


async def test_a_stop_lets_alerts_on_their_way_go_out_and_commits_them() -> None:
    async with running() as found:
        found.place.open.clear()
        found.consumer.produce("hard_bounce")
        await found.place.title()
        found.stop.set()
        found.consumer.came.set()
        found.place.open.set()
        await asyncio.wait_for(asyncio.shield(found.task), SECONDS)
        assert found.consumer.committed[ONE] == 1


async def test_a_stop_does_not_wait_for_a_channel_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "DRAIN_SECONDS", 0.01)
    async with running() as found:
        found.place.open.clear()
        found.consumer.produce("hard_bounce")
        await found.place.title()
        await found.stopped()
        assert found.consumer.committed.get(ONE, 0) == 0


async def test_letters_are_told_again_where_the_log_has_lost_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    rules = Grouping(HASTY)

    async def note(record: GroupTold) -> None:
        rules.remember(record)

    consumer, place, stop = Consumer(), Place(), asyncio.Event()
    consumer.positions[ONE] = 5
    to = channels.over([Service("1", "memory", place.send)], 0.01)
    alerter = Alerter(consumer, rules, to, time.monotonic, note, Continuity(Kafka()))
    task = asyncio.ensure_future(alerter.run(LETTERS, stop))
    try:
        consumer.produce("hard_bounce")
        await place.title()
        # aiokafka begins again at the oldest letter when its position is behind the end.
        consumer.positions[ONE] = 2
        consumer.produce("hard_bounce")
        assert "hard_bounce" in await place.title()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "has lost its end" in capsys.readouterr().out


async def test_an_offset_is_committed_with_what_the_last_letter_was() -> None:
    async with running() as found:
        found.consumer.produce("hard_bounce")
        found.consumer.produce("hard_bounce")
        await found.place.title()
        await found.passed()
        last = last_read.read(found.consumer.metadata[ONE])
        assert (found.consumer.committed[ONE], last and last.offset) == (2, 1)
        assert (found.consumer.committed[TWO], found.consumer.metadata[TWO]) == (0, "")


async def test_a_log_that_grew_beyond_what_was_read_again_is_told_from_its_beginning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mark = Last(offset=4, at=0, digest="of a letter that is gone")
    kafka = Kafka(metadata={ONE: last_read.write(mark)}, lost=True)
    async with running(kafka=kafka) as found:
        found.consumer.positions[ONE] = 5
        await found.passed()
        kafka.lost = False
        assert (kafka.asked[0], found.consumer.begun_anew) == (4, [ONE])
        found.consumer.produce("hard_bounce")
        await found.place.title()
        await found.passed()
        assert found.consumer.committed[ONE] == 1
    assert "has lost its end" in capsys.readouterr().out


async def test_it_is_noticed_while_the_alerter_runs_before_anything_of_the_new_log_is_taken() -> None:
    now, kafka = 1000.0, Kafka()
    async with running(clock=lambda: now, kafka=kafka) as found:
        found.consumer.produce("hard_bounce")
        await found.place.title()
        now += continuity.PAUSE
        kafka.lost = True
        found.consumer.produce("hard_bounce")
        await found.passed()
        assert (kafka.asked, found.consumer.begun_anew) == ([0], [ONE])
        assert found.place.titles.empty()
        kafka.lost = False
        found.consumer.produce("complaint")
        assert "complaint" in await found.place.title()


async def test_it_is_noticed_though_no_letter_comes() -> None:
    now, kafka = 1000.0, Kafka()
    async with running(clock=lambda: now, kafka=kafka) as found:
        found.consumer.produce("hard_bounce")
        await found.place.title()
        kafka.lost = True
        now += continuity.QUIET
        await found.passed()
        assert found.consumer.begun_anew == [ONE]


async def test_letters_wait_and_nothing_is_committed_while_nobody_can_look() -> None:
    mark = Last(offset=0, at=0, digest="of the last letter")
    kafka = Kafka(metadata={ONE: last_read.write(mark)}, away=True)
    async with running(kafka=kafka) as found:
        found.consumer.positions[ONE] = 1
        found.consumer.produce("hard_bounce")
        await found.passed()
        assert found.place.titles.empty()
        assert (ONE in found.consumer.committed, found.consumer.positions[ONE]) == (False, 1)
        kafka.away = False
        found.consumer.produce("hard_bounce")
        await found.place.title()
        await found.passed()
        assert found.consumer.committed[ONE] == 2


async def test_a_bug_in_a_channel_ends_the_alerter() -> None:
    async with running() as found:
        found.place.error = ZeroDivisionError()
        found.consumer.produce("hard_bounce")
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(asyncio.shield(found.task), SECONDS)
        assert ended.group_contains(ZeroDivisionError)


async def test_it_is_live_while_the_loop_makes_passes_and_ready_with_an_assignment() -> None:
    now = 1000.0
    async with running(clock=lambda: now) as found:
        assert not found.alerter.ready().ok
        await found.passed()
        assert found.alerter.ready().ok
        now += loop.LIVE_SECONDS - 1
        assert found.alerter.live().ok
        now += 1
        assert not found.alerter.live().ok
        await found.passed()
        assert found.alerter.live().ok
        found.consumer.listener.on_partitions_revoked([ONE, TWO])
        assert not found.alerter.ready().ok


async def test_metric_labels_from_headers_are_known_words_and_few() -> None:
    async with running() as found:
        for number in range(loop.MOST_PROVIDERS + 5):
            found.consumer.produce(f"word-{number}")
            headers = found.consumer.waiting[-1].headers
            headers[-1] = (contract.HEADER_PROVIDER, b"odd provider %d" % number)
        await found.passed()
    labels = {tuple(sample.labels.items()) for metric in loop.LETTERS.collect() for sample in metric.samples}
    odd = [dict(pairs) for pairs in labels if dict(pairs)["provider"].startswith("odd")]
    assert 0 < len({pairs["provider"] for pairs in odd}) <= loop.MOST_PROVIDERS
    assert {pairs["type"] for pairs in odd} == {"unknown"}
    assert any(dict(pairs)["provider"] == "other" for pairs in labels)


async def _unnoted(_: GroupTold) -> None:
    """Nobody reads it here."""


async def test_what_was_told_is_noted_where_every_alerter_reads_it_whatever_the_cluster_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted, written = topics.load(topics.default_file()), set()

    class Producer:
        def __init__(self, **_: object) -> None: ...

        async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, partition: int) -> None:
            written.add((topic, partition))

    monkeypatch.setattr("alerter.watch.AIOKafkaProducer", Producer)
    to, grouping = channels.over([], 0.0), Grouping(CALM)
    watch = Watch(Settings(), wanted, to, grouping, leads=lambda: True, clock=time.time)
    for number in range(20):
        error = f"Error{number}"
        told = GroupTold(error=error, type="opened", provider="x", told_at=0.0, quiet_until=0.0, covered={})
        await watch.note(told)
    assert written == {(wanted.alerts.name, 0)}


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    async with running(HASTY) as found:
        found.consumer.produce("hard_bounce", ONE)
        found.consumer.produce("hard_bounce", TWO)
        await found.place.title()
        await found.passed()
        found.alerter.begin_again()
        await found.passed()
        assert found.consumer.committed == {ONE: 0, TWO: 0}
        found.consumer.produce("complaint", ONE)
        assert "complaint" in await found.place.title()


async def test_a_group_that_cannot_be_joined_for_good_is_not_waited_for() -> None:
    async with running() as found:
        found.consumer.outside = InvalidSessionTimeoutError()
        found.consumer.came.set()
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(asyncio.shield(found.task), SECONDS)
    refused = among(raised.value, ConfigError)
    assert refused is not None
    assert "alerter's session timeout is 10 s" in str(refused)
    assert "group.min.session.timeout.ms" in str(refused)
