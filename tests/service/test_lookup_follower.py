"""Following a topic that lives in memory into a real RocksDB."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import NodeNotReadyError, OffsetOutOfRangeError, TopicAuthorizationFailedError
from aiokafka.structs import OffsetAndTimestamp

from lookup import answers
from lookup import follower as module
from lookup.follower import Follower
from lookup.progress import Place, Progress
from lookup.store import Store
from pipeline import suppression
from pipeline.contract import Headers
from pipeline.errors import StoreBroken, TopicsMismatch
from pipeline.suppression import Choice, Facts, Span, Suppression
from pipeline.topics import Topic

DAY = 86_400_000
TOPIC = Topic(name="list", key="email", writers=[], readers=[], partitions=2, replication=1, min_insync_replicas=1)


@dataclass(frozen=True)
class FakeRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass
class Partition:
    """A partition's log; `end` may lie behind the last record, as control records make it."""

    records: list[FakeRecord] = field(default_factory=list)
    beginning: int = 0
    end: int = 0


class FakeLog:
    """The consumer, on a topic in memory. Set `away` and nothing answers; set `stuck` and no record comes."""

    def __init__(self) -> None:
        self.partitions = {TopicPartition("list", number): Partition() for number in range(2)}
        self.added = {TopicPartition("list", 2): Partition()}  # beyond what the file says, if `count` says so
        self.positions: dict[TopicPartition, int] = {}
        self.seeks: list[int] = []
        self.away = False
        self.stuck = False
        self.failure: Exception | None = None
        self.count: int | None = 2
        self.connects = 0

    def put(self, key: bytes | None, value: bytes | None, *, partition: int = 0, at: int | None = None) -> None:
        log = self.partitions[TopicPartition("list", partition)]
        log.records.append(FakeRecord(log.end, int(time.time() * 1000) if at is None else at, key, value))
        log.end += 1

    def mark(self, *, partition: int = 0) -> None:
        """Write a control record."""
        self.partitions[TopicPartition("list", partition)].end += 1

    def recreate(self) -> None:
        self.partitions = {partition: Partition() for partition in self.partitions}

    def _ask(self) -> None:
        if self.away:
            raise NodeNotReadyError("away")
        if self.failure:
            raise self.failure

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FakeLog]:
        self._ask()
        self.connects += 1
        yield self

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == list(self.partitions)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return None if self.count is None else set(range(self.count))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.seeks.append(offset)
        self.positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._ask()
        return {partition: self.partitions[partition].beginning for partition in partitions}

    async def end_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._ask()
        return {partition: (self.partitions | self.added)[partition].end for partition in partitions}

    async def offsets_for_times(
        self, timestamps: dict[TopicPartition, int]
    ) -> Mapping[TopicPartition, OffsetAndTimestamp | None]:
        self._ask()
        return {
            partition: next(
                (
                    OffsetAndTimestamp(r.offset, r.timestamp)
                    for r in log.records
                    if r.timestamp >= timestamps[partition]
                ),
                None,
            )
            for partition, log in self.partitions.items()
            if partition in timestamps
        }

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Sequence[FakeRecord]]:
        found = {}
        for partition, log in self.partitions.items():
            position = self.positions[partition]
            if not log.beginning <= position <= log.end and not self.away:
                raise OffsetOutOfRangeError({partition: position})
            if self.away or self.stuck:
                continue
            records = [record for record in log.records if record.offset >= position][:max_records]
            rest = [record for record in log.records if record.offset >= position][max_records:]
            if records:
                found[partition] = records
            self.positions[partition] = rest[0].offset if rest else log.end
        if not found:
            await asyncio.sleep(min(timeout_ms / 1000, 0.005))
        return found


def suppressed(email: str) -> bytes:
    return suppression.encode(Suppression.of(email, Facts(hard_bounce=Span(1, 1))))


def released(email: str) -> bytes:
    """Once suppressed, and not any more."""
    return suppression.encode(Suppression.of(email, Facts(choice=Choice(1, "1", "subscribed"))))


def row(email: str) -> bytes:
    """As the store keeps an address that is suppressed."""
    return answers.ready_made(email, suppressed(email))


@asynccontextmanager
async def following(log: FakeLog, store: Store, *, stall_seconds: float = 60.0) -> AsyncIterator[Follower]:
    """A running follower; one that fails by itself fails the test."""
    follower = Follower(log.connect, store, TOPIC, tombstones_last=DAY, stall_seconds=stall_seconds)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def keys(store: Store) -> list[bytes]:
    return [key for key, _ in store.page(b"", 1000)]


def events(logs: list[structlog.typing.EventDict]) -> list[str]:
    return [entry["event"] for entry in logs]


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


async def test_rows_follow_the_topic_and_a_tombstone_deletes(log: FakeLog, store: Store) -> None:
    log.put(b"a@x", suppressed("a@x"))
    log.put(b"b@x", suppressed("b@x"), partition=1)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        assert keys(store) == [b"a@x", b"b@x"]
        assert store.get(b"a@x") == answers.ready_made("a@x", suppressed("a@x"))
        log.put(b"a@x", None)
        await until(lambda: keys(store) == [b"b@x"])


async def test_it_is_not_caught_up_before_the_end_is_reached(log: FakeLog, store: Store) -> None:
    log.put(b"a@x", suppressed("a@x"))
    log.stuck = True
    async with following(log, store) as follower:
        await until(lambda: follower.ready().details["lag"] == 1)
        assert (follower.caught_up, follower.ready().ok, follower.live().ok) == (False, False, True)
        log.stuck = False
        await until(lambda: follower.ready().ok)
        assert keys(store) == [b"a@x"]


@pytest.mark.parametrize("first", [True, False])
async def test_a_log_that_ends_in_control_records_is_caught_up_with(log: FakeLog, store: Store, first: bool) -> None:
    if first:
        log.put(b"a@x", suppressed("a@x"))
    log.mark()
    log.mark(partition=1)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up and follower.ready().details["lag"] == 0)


async def test_an_empty_topic_is_caught_up_with(log: FakeLog, store: Store) -> None:
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)


async def test_a_restart_goes_on_where_the_rows_stand(log: FakeLog, store: Store) -> None:
    for number in range(3):
        log.put(b"%d@x" % number, suppressed("a@x"))
    async with following(log, store):
        await until(lambda: len(keys(store)) == 3)
    log.put(b"0@x", None)
    log.seeks.clear()
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        assert log.seeks == [3, 0]
        assert keys(store) == [b"1@x", b"2@x"]


async def test_more_records_than_one_slice_are_all_applied(
    log: FakeLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE", 10)
    for number in range(95):
        log.put(b"%03d@x" % number, suppressed("a@x"))
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        assert len(keys(store)) == 95


async def test_a_position_before_the_log_rebuilds_the_list(log: FakeLog, store: Store) -> None:
    log.partitions[TopicPartition("list", 0)] = Partition(beginning=5, end=5)
    log.put(b"new@x", suppressed("new@x"))
    stale = Progress(int(time.time() * 1000), {0: Place(1, 0)})
    store.apply({b"stale@x": row("stale@x")}, stale)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        assert keys(store) == [b"new@x"]


async def lost(log: FakeLog, store: Store) -> None:
    """Follow a topic that lacks what the list knew: it is read, and nothing is answered."""
    with structlog.testing.capture_logs() as logs:
        async with following(log, store) as follower:
            await until(lambda: follower.lost)
            assert (follower.caught_up, follower.ready().ok, follower.live().ok) == (False, False, True)
            assert "postlog state write-back" in follower.ready().details["lost"]
    assert "the topic lacks what this list knows" in events(logs)


async def test_a_topic_that_lost_its_end_is_not_answered_from_until_it_says_again_what_the_list_knew(
    log: FakeLog, store: Store
) -> None:
    for name in ("kept", "gone", "freed"):
        log.put(b"%b@x" % name.encode(), suppressed(f"{name}@x") if name != "freed" else released("freed@x"))
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
    del log.partitions[TopicPartition("list", 0)].records[1:]
    log.partitions[TopicPartition("list", 0)].end = 1
    await lost(log, store)
    await lost(log, store)  # also after a restart
    log.put(b"other@x", suppressed("other@x"))
    log.put(b"gone@x", released("gone@x"))  # this does not say why it was suppressed
    await lost(log, store)
    log.put(b"gone@x", suppressed("gone@x"))
    log.put(b"gone@x", released("gone@x"))  # and this came later
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        assert (follower.lost, follower.ready().details.get("lost")) == (False, None)
        assert keys(store) == [b"gone@x", b"kept@x", b"other@x"]
        assert store.claims(10) == 0


async def test_a_new_topic_that_is_as_long_as_the_old_one_is_not_taken_for_it(log: FakeLog, store: Store) -> None:
    log.put(b"old@x", suppressed("old@x"), at=1000)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
    log.recreate()
    log.put(b"new@x", suppressed("new@x"), at=5000)
    await lost(log, store)
    assert keys(store) == [b"new@x"]
    log.put(b"old@x", suppressed("old@x"), partition=1)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        assert keys(store) == [b"new@x", b"old@x"]


async def test_a_log_that_only_looks_like_another_one_is_read_again_and_then_answered_from(
    log: FakeLog, store: Store
) -> None:
    log.put(b"a@x", suppressed("a@x"), at=1000)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
    kept = store.progress()
    assert kept
    # As if a clock had stood still: a record looks newer than all that was read.
    store.apply({}, Progress(kept.as_of, {0: Place(1, 1)}))
    with structlog.testing.capture_logs() as logs:
        async with following(log, store) as follower:
            await until(lambda: follower.caught_up)
    assert "reading the list from the beginning" in events(logs)
    assert (keys(store), store.claims(10)) == ([b"a@x"], 0)


async def test_a_list_that_is_too_old_for_tombstones_is_rebuilt(log: FakeLog, store: Store) -> None:
    log.put(b"a@x", suppressed("a@x"), at=1)
    store.apply({b"deleted@x": suppressed("deleted@x")}, Progress(int(time.time() * 1000) - DAY, {0: Place(1, 1)}))
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        assert keys(store) == [b"a@x"]


async def test_a_topic_made_anew_under_us_is_read_and_answers_nothing_until_it_is_whole(
    log: FakeLog, store: Store
) -> None:
    log.put(b"old@x", suppressed("old@x"))
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        log.stuck = True
        with structlog.testing.capture_logs() as logs:
            log.recreate()
            log.put(b"new@x", suppressed("new@x"), partition=1)
            await until(lambda: keys(store) == [])
        assert "reading the list from the beginning" in events(logs)
        assert (follower.caught_up, follower.ready().ok) == (False, False)
        log.stuck = False
        await until(lambda: follower.lost)
        assert (keys(store), follower.caught_up) == ([b"new@x"], False)
        log.put(b"old@x", suppressed("old@x"))
        await until(lambda: follower.caught_up)
        assert keys(store) == [b"new@x", b"old@x"]


async def test_without_kafka_it_stays_ready_and_says_so_and_then_goes_on(log: FakeLog, store: Store) -> None:
    log.put(b"a@x", suppressed("a@x"))
    # However short the patience: a follower that could not move is not stalled.
    async with following(log, store, stall_seconds=0.05) as follower:
        await until(lambda: follower.caught_up)
        log.away = True
        await until(lambda: "out of sight" in str(follower.ready().details["kafka"]))
        log.put(b"b@x", suppressed("b@x"))
        await asyncio.sleep(0.1)
        assert (follower.ready().ok, follower.live().ok) == (True, True)
        with structlog.testing.capture_logs() as logs:
            log.away = False
            await until(lambda: keys(store) == [b"a@x", b"b@x"])
        assert "continuing the local list" in events(logs)
        assert "reading the list from the beginning" not in events(logs)


async def test_kafka_that_goes_away_while_the_log_is_checked_is_waited_for(log: FakeLog, store: Store) -> None:
    log.put(b"a@x", suppressed("a@x"))
    log.away = True
    async with following(log, store) as follower:
        await asyncio.sleep(0.02)
        assert not follower.caught_up
        log.away = False
        await until(lambda: follower.caught_up)


async def test_a_topic_made_anew_while_kafka_was_away_is_noticed(log: FakeLog, store: Store) -> None:
    log.put(b"old@x", suppressed("old@x"), at=1000)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        log.away = True
        await until(lambda: "out of sight" in str(follower.ready().details["kafka"]))
        log.recreate()
        log.put(b"new@x", suppressed("new@x"), at=5000)
        log.away = False
        await until(lambda: keys(store) == [b"new@x"])


async def test_a_topic_that_is_gone_is_waited_for_from_afar(log: FakeLog, store: Store) -> None:
    log.put(b"a@x", suppressed("a@x"))
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        log.count = None
        await until(lambda: "out of sight" in str(follower.ready().details["kafka"]))
        assert follower.ready().ok
        log.count = 2
        log.put(b"b@x", suppressed("b@x"))
        await until(lambda: keys(store) == [b"a@x", b"b@x"])
        assert log.connects > 1


async def test_behind_and_without_progress_is_not_live(log: FakeLog, store: Store) -> None:
    async with following(log, store, stall_seconds=0.05) as follower:
        await until(lambda: follower.ready().ok)
        log.stuck = True
        log.put(b"a@x", suppressed("a@x"))
        await until(lambda: not follower.live().ok and not follower.ready().ok)
        log.stuck = False
        await until(lambda: follower.live().ok and follower.ready().ok)


async def test_waiting_at_the_end_for_long_is_not_standing_still(log: FakeLog, store: Store) -> None:
    async with following(log, store, stall_seconds=0.2) as follower:
        await until(lambda: follower.caught_up)
        await asyncio.sleep(0.3)
        log.stuck = True
        log.put(b"a@x", suppressed("a@x"))
        await until(lambda: follower.ready().details["lag"] == 1)
        assert follower.live().ok


async def test_a_record_that_cannot_be_read_is_kept_and_told_without_its_address(log: FakeLog, store: Store) -> None:
    log.put(b"secret@x", b'{"v":2}')
    log.put(b"\xff", suppressed("a@x"))
    log.put(None, suppressed("a@x"))
    log.put(b"fine@x", suppressed("fine@x"))
    with structlog.testing.capture_logs() as logs:
        async with following(log, store) as follower:
            await until(lambda: follower.caught_up)
    assert keys(store) == [b"fine@x", b"secret@x"]
    assert [answers.body("x", row)[0] for _, row in store.page(b"", 10)] == [200, 500]
    told = [entry for entry in logs if entry["event"] == "record cannot be read"]
    assert [(entry["topic"], entry["partition"], entry["offset"]) for entry in told] == [
        ("list", 0, n) for n in range(3)
    ]
    assert all(entry["reason"] and "secret" not in str(entry) for entry in told)


async def test_a_partition_that_somebody_added_is_left_alone(log: FakeLog, store: Store) -> None:
    log.put(b"a@x", suppressed("a@x"))
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        log.count = 3
        log.put(b"b@x", suppressed("b@x"))
        await until(lambda: keys(store) == [b"a@x", b"b@x"])
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)


async def test_entries_beyond_the_partitions_that_the_file_says_stop_the_follower(log: FakeLog, store: Store) -> None:
    log.count = 3
    log.added[TopicPartition("list", 2)].end = 1
    with pytest.raises(TopicsMismatch, match=r"records in partition 2, and topics\.yaml says 2 .* topics check"):
        async with asyncio.timeout(10):
            await Follower(log.connect, store, TOPIC, tombstones_last=DAY, stall_seconds=60).run()


async def test_entries_that_come_there_later_stop_it_too(log: FakeLog, store: Store) -> None:
    log.count = 3
    follower = Follower(log.connect, store, TOPIC, tombstones_last=DAY, stall_seconds=60)
    running = asyncio.ensure_future(follower.run())
    await until(lambda: follower.caught_up)
    log.added[TopicPartition("list", 2)].end = 1
    with pytest.raises(TopicsMismatch, match="records in partition 2"):
        async with asyncio.timeout(10):
            await running


async def test_an_error_that_waiting_does_not_mend_ends_the_follower(log: FakeLog, store: Store) -> None:
    log.failure = TopicAuthorizationFailedError("list")
    with pytest.raises(TopicAuthorizationFailedError):
        async with asyncio.timeout(10):
            await Follower(log.connect, store, TOPIC, tombstones_last=DAY, stall_seconds=60).run()


async def test_a_list_that_cannot_be_read_any_more_ends_the_follower(log: FakeLog, store: Store) -> None:
    store.broken = True  # somebody who asked met the damage
    with pytest.raises(StoreBroken, match="reads the list from Kafka"):
        async with asyncio.timeout(10):
            await Follower(log.connect, store, TOPIC, tombstones_last=DAY, stall_seconds=60).run()


async def test_how_current_the_list_is_gets_kept_though_no_record_comes(
    log: FakeLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_EVERY", 1)
    async with following(log, store) as follower:
        await until(lambda: follower.caught_up)
        first = store.progress()
        assert first
        await until(lambda: (kept := store.progress()) is not None and kept.as_of > first.as_of)
