"""A lane without Kafka: which part of a span it processes, and when it must not believe the log."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from pipeline import last_read, peek, topics
from pipeline.errors import OffsetGap, RecordsLost
from pipeline.last_read import Last
from pipeline.settings import Settings
from processor import reading, source
from processor.fetches import Span
from processor.guard import Guard
from processor.hold import Hold
from processor.lane import Lane
from processor.marks import Mark
from processor.reading import Reading
from processor.site import Site
from tests.unit.records import FakeRecord

SITE = Site(Settings(), topics.load(topics.default_file()), Path("unused"), "group")
#: What the lane has processed: offsets before 10, the last record at 8, and a marker.
NEXT, LAST = 10, last_read.last_of(FakeRecord(8, b"8"), 3)


class Log:
    """What a lane does and learns: transactions as (offsets of records, end), incidents, questions to the log."""

    def __init__(self) -> None:
        self.done: list[tuple[list[int], int]] = []
        self.noted: list[str] = []
        self.asked: list[Last] = []
        self.problem: str | None = None


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log()

    async def replaced(_: Any, __: Any, last: Last) -> str | None:
        found.asked.append(last)
        return found.problem

    @asynccontextmanager
    async def reader(_: Settings) -> AsyncIterator[None]:
        yield

    async def work(lane: Lane, records: Sequence[FakeRecord], _: str, end: int) -> int:
        found.done.append(([record.offset for record in records], end))
        lane._reading.next = end
        return len(records)

    async def note(_: Hold, subject: str, reason: str) -> None:
        found.noted.append(f"{subject}: {reason}")

    monkeypatch.setattr(peek, "replaced", replaced)
    monkeypatch.setattr(reading, "reader", reader)
    monkeypatch.setattr(Lane, "_work", work)
    monkeypatch.setattr(Hold, "note_stop", note)
    return found


@pytest.fixture
def lane(log: Log) -> Lane:
    made = Lane(3, SITE, Guard(), lambda: None)
    made._reading.advance(NEXT, Mark(last=LAST))
    made._reading.verified(3)
    return made


def span(first: int, count: int, *, start: int | None = None, end: int | None = None, **more: Any) -> Span:
    records = [FakeRecord(offset, b"%d" % offset) for offset in range(first, first + count)]
    more = {"epoch": 3, **more}
    return Span(records, first if start is None else start, first + count if end is None else end, **more)


async def test_what_holds_no_record_is_committed_along(lane: Lane, log: Log) -> None:
    await lane.work(span(12, 2, start=10, end=15))
    await lane.work(span(15, 0, start=15, end=16))
    assert log.done == [([12, 13], 15), ([], 16)]
    assert not log.asked


async def test_records_that_never_arrived_are_a_gap(lane: Lane) -> None:
    with pytest.raises(OffsetGap, match="expected offset 10, got 11"):
        await lane.work(span(11, 2))


async def test_where_a_broker_has_taken_the_lead_the_last_record_is_looked_at_once(lane: Lane, log: Log) -> None:
    await lane.work(span(10, 2, epoch=5))
    await lane.work(span(12, 2, epoch=5))
    assert log.asked == [LAST]
    assert log.done == [([10, 11], 12), ([12, 13], 14)]


async def test_a_log_that_lost_its_end_and_grew_beyond_again_stops_the_lane(lane: Lane, log: Log) -> None:
    log.problem = "another record stands at offset 8"
    with pytest.raises(RecordsLost, match=r"another record.*postlog replay --after-loss"):
        await lane.work(span(10, 2, epoch=4))
    assert log.done == []
    assert log.noted == ["records_lost: email-events-3: another record stands at offset 8"]


async def test_what_is_read_again_from_before_is_left_out_if_it_is_the_same(lane: Lane, log: Log) -> None:
    await lane.work(span(5, 7))
    assert log.done == [([10, 11], 12)]


async def test_what_is_read_again_from_before_and_is_another_stops_the_lane(lane: Lane, log: Log) -> None:
    again = span(5, 7)
    again[3] = FakeRecord(8, b"another")
    with pytest.raises(RecordsLost, match="another record stands at offset 8"):
        await lane.work(again)
    assert log.done == []


async def test_what_is_before_a_hole_is_processed_and_nothing_behind_it(lane: Lane, log: Log) -> None:
    holed = span(10, 2, end=20, hole=12)
    holed.append(FakeRecord(19, b"19"))
    with pytest.raises(RecordsLost, match="records from offset 12 on are missing"):
        await lane.work(holed)
    assert log.done == [([10, 11], 12)]
    assert len(log.noted) == 1


class Reader:
    """A log of the offsets 0 to 9."""

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def at(_: Any, __: TopicPartition, offset: int) -> peek.Place:
        return peek.Place(first=offset, epoch=0, record=None, stable=10, end=10)

    monkeypatch.setattr(peek, "at", at)
    return Reader()


def of_topic(identity: str, noted: list[str], *, mark: str = "") -> Reading:
    """Of a lane whose process began with this topic; mark is the one that stands with the offset."""

    async def note(_: str, reason: str) -> None:
        noted.append(reason)

    made = Reading(site_of(identity), 3, note)
    made.mark = Mark(topic=mark)
    return made


def site_of(identity: str) -> Site:
    return dataclasses.replace(SITE, topic_ids={SITE.topics.events.name: identity})


async def test_what_is_committed_names_the_topic_that_it_is_of() -> None:
    assert of_topic("new", []).marked([], {}).topic == "new"


@pytest.mark.parametrize(
    ("committed", "mark", "made_of"),
    [
        (7, "old", "old"),
        (7, "old", "new"),  # somebody committed in the new topic as if it were the former one
        (None, "", "old"),  # together with the topic Kafka forgot the offset
    ],
)
async def test_an_offset_or_a_state_of_another_topic_stops_the_lane(
    reader: Any, committed: int | None, mark: str, made_of: str
) -> None:
    noted: list[str] = []
    with pytest.raises(RecordsLost, match=r"the topic was deleted and made anew.*postlog replay --after-loss"):
        await of_topic("new", noted, mark=mark).start(reader, committed, {}, made_of)
    assert "made anew" in noted[0]


@pytest.mark.parametrize(
    ("committed", "mark", "made_of", "now"),
    [
        (7, "new", "old", "new"),  # an operator accepted the loss
        (7, "", "old", "new"),
        (7, "old", "old", ""),  # these brokers know no ids
        (None, "", None, "new"),
    ],
)
async def test_one_that_is_of_this_topic_or_of_nobody_knows_which_goes_on(
    reader: Any, committed: int | None, mark: str, made_of: str | None, now: str
) -> None:
    found = of_topic(now, [], mark=mark)
    await found.start(reader, committed, {}, made_of)
    assert found.next == (committed or 0)


async def test_where_the_topic_is_another_one_all_of_it_is_yet_to_be_processed(reader: Any) -> None:
    tp = TopicPartition("email-events", 3)
    assert await source.goes_on(reader, tp, 7, None, first=0, end=10, remade=True) == 0
    assert await source.goes_on(reader, tp, 7, None, first=0, end=10, remade=False) is None


async def test_a_changelog_that_became_shorter_stops_the_lane_and_names_both_commands(reader: Any) -> None:
    noted: list[str] = []
    found = of_topic("new", noted, mark="new")
    found.mark = msgspec.structs.replace(found.mark, logs={"seen": 9})
    with pytest.raises(RecordsLost, match=r"seen ends at 5, it went to 9.*replay --rebuild.*replay --after-loss"):
        await found.start(reader, 7, {"seen": 5}, "new")
    assert "seen ends at 5" in noted[0]


def stands(monkeypatch: pytest.MonkeyPatch, epochs: dict[int, int]) -> None:
    """A log with records at these offsets, written in these epochs; others than were processed."""

    async def at(_: Any, __: TopicPartition, offset: int) -> peek.Place | None:
        first = min((there for there in epochs if there >= offset), default=None)
        epoch = -1 if first is None else epochs[first]
        record = FakeRecord(offset, b"another") if first == offset else None
        return peek.Place(first, epoch, record, stable=max(epochs) + 1, end=max(epochs) + 1)

    monkeypatch.setattr(peek, "at", at)


PROCESSED = last_read.last_of(FakeRecord(8, b"8"), 1)


@pytest.mark.parametrize(
    ("epochs", "last", "first", "there"),
    [
        ({**dict.fromkeys(range(5), 1), **dict.fromkeys(range(5, 20), 3)}, PROCESSED, 0, 5),  # lost and given again
        (dict.fromkeys(range(20), 1), PROCESSED, 0, 0),  # the log was replaced as a whole
        (dict.fromkeys(range(20), 3), msgspec.structs.replace(PROCESSED, epoch=-1), 0, 0),  # nobody knows the epoch
        (dict.fromkeys(range(15, 20), 3), PROCESSED, 15, 15),  # retention took it
        (dict.fromkeys(range(7), 1), None, 0, 0),  # it ends before, and nobody knows what was processed
        (dict.fromkeys((*range(9), *range(14, 20)), 1), None, 0, 14),  # a hole
        (dict.fromkeys(range(20), 1), None, 0, None),
    ],
)
async def test_a_log_goes_on_behind_what_it_lost(
    monkeypatch: pytest.MonkeyPatch, epochs: dict[int, int], last: Last | None, first: int, there: int | None
) -> None:
    stands(monkeypatch, epochs)
    partition, end = TopicPartition("email-events", 3), max(epochs) + 1
    found = await source.goes_on(Reader(), partition, 9, last, first=first, end=end, remade=False)
    assert found == there
