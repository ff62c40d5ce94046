"""What a fetch stands for: batches as a broker sends them, through aiokafka's own parser."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.errors import OffsetGap
from processor import fetches
from processor.fetches import Span
from tests.unit.records import FakeRecord

TP = TopicPartition("events", 3)
READ_COMMITTED = 1


class State:
    """The part of a partition's state in a consumer that a result touches."""

    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def consumed_to(self, position: int) -> None:
        self.position = position


class Assignment:
    active = True

    def __init__(self, state: State) -> None:
        self._state = state

    def state_value(self, _: TopicPartition) -> State:
        return self._state


def batch(first: int, records: int, *, producer: int = -1, epoch: int = 0) -> bytes:
    """A batch as a broker keeps it; with a producer it is part of a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, int(producer >= 0), producer, 0, 0, 10_000)
    for offset in range(records):
        builder.append(offset, timestamp=1_700_000_000_000, key=b"key", value=b"value", headers=[])
    built = builder.build()
    built[0:8] = first.to_bytes(8, "big")
    built[12:16] = epoch.to_bytes(4, "big")
    return bytes(built)


def result(data: bytes, state: State, aborted: tuple[tuple[int, int], ...] = ()) -> Any:
    fetches.install()
    at = state.position
    read = fetcher.PartitionRecords(
        TP, fetcher.MemoryRecords(data), list(aborted), at, None, None, True, READ_COMMITTED
    )
    return fetcher.FetchResult(TP, assignment=Assignment(state), partition_records=read, backoff=0)


def span(found: Any) -> tuple[int, int, list[int], int | None]:
    assert isinstance(found, Span)
    return found.start, found.end, [record.offset for record in found], found.hole


def test_a_span_holds_its_records_and_says_from_where_to_where_it_was_read() -> None:
    state = State(6)
    found = result(batch(5, 3, epoch=4) + batch(8, 2, epoch=5), state)
    assert span(first := found.getall(3)) == (6, 9, [6, 7, 8], None)
    assert first.epoch == 4
    assert span(found.getall(None)) == (9, 10, [9], None)


def test_records_of_an_aborted_transaction_are_left_out_and_are_no_hole() -> None:
    found = result(batch(0, 2) + batch(2, 3, producer=7) + batch(5, 1), State(0), ((7, 2),))
    assert span(found.getall()) == (0, 6, [0, 1, 5], None)


def test_what_holds_no_record_belongs_to_the_next_span_or_is_told_by_itself() -> None:
    state = State(0)
    assert not result(batch(0, 2, producer=7), state, ((7, 0),)).getall()
    assert not result(batch(2, 1, producer=7), state, ((7, 2),)).getall()
    assert span(result(batch(3, 2), state).getall()) == (0, 5, [3, 4], None)
    assert not result(batch(5, 2, producer=7), state, ((7, 5),)).getall()
    assert span(fetches.skipped(state)) == (5, 7, [], None)
    assert fetches.skipped(state) is None
    assert span(result(batch(7, 1), state).getall()) == (7, 8, [7], None)


@pytest.mark.parametrize(("data", "hole"), [(batch(2, 2), 0), (batch(0, 2) + batch(4, 1), 2)])
def test_offsets_that_no_batch_holds_are_a_hole(data: bytes, hole: int) -> None:
    assert span(result(data, State(0)).getall())[3] == hole


def test_after_a_seek_what_was_skipped_elsewhere_is_not_counted() -> None:
    state = State(0)
    assert not result(batch(0, 2, producer=7), state, ((7, 0),)).getall()
    state.position = 10
    assert span(result(batch(10, 1), state).getall()) == (10, 11, [10], None)


def test_records_from_elsewhere_must_be_complete() -> None:
    assert span(fetches.span_of([FakeRecord(3, b""), FakeRecord(4, b"")])) == (3, 5, [3, 4], None)
    with pytest.raises(OffsetGap):
        fetches.span_of([FakeRecord(3, b""), FakeRecord(5, b"")])


def test_joined_spans_are_one_with_the_lower_epoch_and_the_first_hole() -> None:
    joined = fetches.join([Span([FakeRecord(0, b"")], 0, 3, epoch=1), Span([], 3, 5, epoch=1, hole=4)])
    assert (span(joined), joined.epoch) == ((0, 5, [0], 4), 1)
