"""Lanes without Kafka: what waits for one, when it has room, and when a fetch must not be believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from pipeline import topics
from pipeline.errors import Fenced, OffsetGap
from pipeline.settings import Settings
from processor import lanes as module
from processor.guard import Guard
from processor.lane import Lane
from processor.lanes import Lanes
from processor.position import contradiction
from processor.site import Site
from processor.watch import stalled
from tests.unit.records import FakeRecord

SITE = Site(Settings(processor_max_batch=10), topics.load(topics.default_file()), Path("unused"), "group")


class FakeLane:
    """Processes what it is given once `gate` is open."""

    gate: asyncio.Event
    batches: list[list[int]]

    owes_too_much = False

    def __init__(self, number: int, site: Site, _: Guard, call_ended: Callable[[], None]) -> None:
        self.number = number
        self.is_open = False
        self.call_ended = call_ended

    def begin(self) -> None: ...

    async def open(self) -> None:
        self.is_open = True

    async def work(self, records: list[FakeRecord]) -> None:
        await self.gate.wait()
        self.batches.append([record.offset for record in records])

    def pause_calls(self) -> None: ...

    def resume_calls(self) -> None: ...

    async def finish_calls(self) -> None: ...

    async def close(self) -> None:
        self.is_open = False


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> type[FakeLane]:
    class Fresh(FakeLane):
        gate = asyncio.Event()
        batches: list[list[int]] = []  # noqa: RUF012

    monkeypatch.setattr(module, "Lane", cast("type[Lane]", Fresh))
    return Fresh


def records(first: int, count: int, size: int = 10) -> list[FakeRecord]:
    return [FakeRecord(offset, b"x" * size) for offset in range(first, first + count)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what a fake does sets no event
            await asyncio.sleep(0)


async def until_taken(lanes: Lanes) -> None:
    while not lanes.has_room(0):
        await lanes.until_room(1.0)


async def test_everything_that_waits_goes_into_the_next_batch(lane: type[FakeLane]) -> None:
    lanes = Lanes(SITE)
    lanes.assign([0])
    lanes.deliver(0, records(0, 1))
    await asyncio.sleep(0)
    for first in (1, 4, 7):
        lanes.deliver(0, records(first, 3))
    lane.gate.set()
    await lanes.until_room(1.0)
    await lanes.close()
    assert [offset for batch in lane.batches for offset in batch] == list(range(10))
    assert len(lane.batches) <= 2


async def test_a_lane_has_no_room_while_two_batches_or_too_many_bytes_wait(
    lane: type[FakeLane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_BYTES", 1000)
    lanes = Lanes(SITE)
    lanes.assign([0, 1])
    lanes.deliver(0, records(0, 20))
    lanes.deliver(1, records(0, 2, size=600))
    assert not lanes.has_room(0)
    assert not lanes.has_room(1)
    assert not lanes.has_room(2)  # not ours
    lane.gate.set()
    await until_taken(lanes)
    await lanes.close()


async def test_a_lane_that_owes_too_many_calls_has_no_room_until_some_are_done(lane: type[FakeLane]) -> None:
    lanes = Lanes(SITE)
    lanes.assign([0])
    lane.gate.set()
    lane.owes_too_much = True
    assert not lanes.has_room(0)
    lane.owes_too_much = False
    assert lanes.has_room(0)
    await lanes.close()


async def test_a_call_that_ended_is_committed_without_waiting_for_records(lane: type[FakeLane]) -> None:
    lanes = Lanes(SITE)
    lanes.assign([0])
    lane.gate.set()
    cast("FakeLane", lanes.all[0]).call_ended()
    await lanes.until_room(5.0)
    await lanes.close()
    assert lane.batches == [[]]


@pytest.mark.parametrize(
    "second",
    [records(11, 5), records(9, 5), records(0, 10), [FakeRecord(10, b""), FakeRecord(12, b"")]],
    ids=["jump", "overlap", "backwards", "hole inside"],
)
async def test_a_fetch_that_does_not_go_on_where_the_last_one_ended_stops_everything(
    lane: type[FakeLane], second: list[FakeRecord]
) -> None:
    lanes = Lanes(SITE)
    lanes.assign([0])
    lanes.deliver(0, records(0, 10))
    lanes.deliver(0, second)
    with pytest.raises(OffsetGap):
        lanes.failure.result()
    lane.gate.set()
    await lanes.close()


async def test_what_waits_is_forgotten_when_the_partition_is_given_up(lane: type[FakeLane]) -> None:
    lanes = Lanes(SITE)
    lanes.assign([0])
    await asyncio.sleep(0)
    lanes.deliver(0, records(0, 10))
    lanes.deliver(0, records(10, 10))
    await asyncio.sleep(0)
    leaving = asyncio.create_task(lanes.close())
    await asyncio.sleep(0)
    lane.gate.set()
    await leaving
    assert lane.batches == [list(range(10))] or lane.batches == []
    lanes.deliver(0, records(20, 1))  # not ours any more
    assert lanes.all == []


async def test_a_lane_that_stays_goes_on_over_a_rebalance_and_takes_records_from_the_committed_offset_on(
    lane: type[FakeLane],
) -> None:
    lanes = Lanes(SITE)
    lanes.assign([0, 1])
    stays = next(each for each in lanes.all if each.number == 0)
    lane.gate.set()
    lanes.deliver(0, records(0, 10))
    await until_taken(lanes)
    lanes.suspend()
    lanes.deliver(0, records(10, 10))
    await until(lambda: [offset for batch in lane.batches for offset in batch] == list(range(20)))
    lanes.assign([0, 2])
    assert stays in lanes.all
    assert sorted(each.number for each in lanes.all) == [0, 2]
    lanes.deliver(0, records(5, 20))
    lanes.deliver(1, records(0, 10))
    await until(lambda: lane.batches[-1] == list(range(5, 25)))
    await lanes.close()
    assert not lanes.failure.done()


@pytest.mark.parametrize("again", [False, True])
async def test_a_new_owner_that_was_faster_than_the_news_of_it_is_no_failure(
    lane: type[FakeLane], monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    async def fenced(_: FakeLane, __: list[FakeRecord]) -> None:
        raise Fenced("somebody else")

    lanes = Lanes(SITE)
    lanes.assign([0])
    await until(lambda: all(each.is_open for each in lanes.all))
    (former,) = lanes.all
    lanes.suspend()
    with monkeypatch.context() as patched:
        patched.setattr(lane, "work", fenced)
        lanes.deliver(0, records(0, 1))
        await until(lambda: not former.is_open)
    lanes.assign([0] if again else [])
    assert former not in lanes.all
    assert len(lanes.all) == again
    await until(lambda: all(each.is_open for each in lanes.all))
    await lanes.close()
    assert not lanes.failure.done()


async def test_to_be_fenced_when_nothing_moves_is_a_failure(
    lane: type[FakeLane], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fenced(_: FakeLane, __: list[FakeRecord]) -> None:
        raise Fenced("somebody else")

    monkeypatch.setattr(lane, "work", fenced)
    lanes = Lanes(SITE)
    lanes.assign([0])
    lanes.deliver(0, records(0, 1))
    with pytest.raises(Fenced):
        await asyncio.wait_for(asyncio.shield(lanes.failure), 5)
    await lanes.close()


async def test_a_lane_that_fails_is_the_failure_of_all(lane: type[FakeLane], monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: FakeLane) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(lane, "open", broken)
    lanes = Lanes(SITE)
    lanes.assign([0])
    with pytest.raises(OSError, match="no disk"):
        await asyncio.wait_for(asyncio.shield(lanes.failure), 5)
    await lanes.close()


@pytest.mark.parametrize(
    ("committed", "used", "remade", "words"),
    [
        (None, False, False, None),
        (5, True, False, None),
        (10, True, False, None),
        (4, True, False, "expired"),
        (11, True, False, "lost its end"),
        # Nobody knows why the offset is gone, so nobody is blamed for it alone.
        (None, True, False, "the group, or the topic and made it anew, or Kafka forgot a group"),
        (None, True, True, "the topic was deleted and made anew"),
        (7, True, True, "the topic was deleted and made anew"),
        (7, False, True, "the topic was deleted and made anew"),
    ],
)
def test_a_log_that_contradicts_the_committed_offset_is_noticed(
    committed: int | None, used: bool, remade: bool, words: str | None
) -> None:
    found = contradiction(committed, first=5, end=10, used=used, remade=remade)
    assert (found is None) if words is None else (found is not None and words in found)


def test_only_who_is_behind_can_be_stalled() -> None:
    assert stalled(behind=True, idle_seconds=61, limit=60)
    assert not stalled(behind=True, idle_seconds=59, limit=60)
    assert not stalled(behind=False, idle_seconds=3600, limit=60)
