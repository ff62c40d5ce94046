"""What a fetch stands for: its records, and all offsets of the log that were read for them.

A log that others write to in transactions holds offsets without a record for us: the markers that end transactions,
and records of those that were aborted. A consumer skips them and says nothing, so that nobody could tell them from
records that are gone. Here each fetch says from where to where it was read, and where the log itself has a hole.

A patch of aiokafka 0.14 (`install`): `Span` is what its consumers return, and it is a list of records as before.
docs/decisions/0021.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords

from pipeline.contract import Record
from pipeline.errors import OffsetGap
from pipeline.peek import head_of


class Span(list[Record]):
    """Records of one partition, and the part of the log [start, end) that they are all of.

    epoch  leader epoch of the first batch, or lower; -1 if unknown. It grows whenever a broker takes the lead, so
           only where it has grown a log can have lost its end and grown again
    hole   first offset of those that should be there and are not; None if all is there
    """

    def __init__(
        self, records: Iterable[Record], start: int, end: int, *, epoch: int = -1, hole: int | None = None
    ) -> None:
        super().__init__(records)
        self.start, self.end, self.epoch, self.hole = start, end, epoch, hole


def span_of(records: Sequence[Record]) -> Span:
    """Records as a span. Raises OffsetGap if they are of no fetch of ours and one between them is missing."""
    if isinstance(records, Span):
        return records
    if not records:
        return Span([], 0, 0)
    start, end = records[0].offset, records[-1].offset + 1
    if end - start != len(records):
        raise OffsetGap(f"got {len(records)} records from {start} to {end - 1}")
    return Span(records, start, end)


def join(spans: Sequence[Span]) -> Span:
    """Spans that go on from each other as one; none is the empty one."""
    if not spans:
        return Span([], 0, 0)
    records = [record for span in spans for record in span]
    holes = [span.hole for span in spans if span.hole is not None]
    first = spans[0]
    return Span(records, first.start, spans[-1].end, epoch=first.epoch, hole=holes[0] if holes else None)


class _Batches:
    """aiokafka's batches of an answer; it notes where the first one after a missing offset begins."""

    def __init__(self, data: bytes) -> None:
        self._batches = MemoryRecords(data)
        _, self.epoch = head_of(data)
        self.expected: int | None = None
        self.hole: int | None = None

    def size_in_bytes(self) -> int:
        size: int = self._batches.size_in_bytes()
        return size

    def has_next(self) -> bool:
        more: bool = self._batches.has_next()
        return more

    def next_batch(self) -> Any:
        batch: Any = self._batches.next_batch()
        if self.hole is None and self.expected is not None and batch.base_offset > self.expected:
            self.hole = self.expected
        self.expected = batch.next_offset
        return batch


class _Records(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, tp: Any, records: Any, aborted: Any, fetch_offset: int, *rest: Any) -> None:
        super().__init__(tp, records, aborted, fetch_offset, *rest)
        self.batches = records
        records.expected = fetch_offset


class _Result(FetchResult):  # type: ignore[misc]
    def getall(self, max_records: int | None = None) -> list[Any]:
        """As aiokafka's; a span, which also tells of what was read since the last one and held no records."""
        read = self._partition_records
        if read is None:
            return []
        before = read.next_fetch_offset
        found = super().getall(max_records)
        state = self._assignment.state_value(self._topic_partition)
        start = before
        if skipped := getattr(state, "skipped", None):
            start = skipped[0] if skipped[1] == before else before
        end = read.next_fetch_offset
        state.skipped = None if found else (start, end)
        hole = read.batches.hole
        here = hole is not None and start <= hole < end
        return Span(found, start, end, epoch=read.batches.epoch, hole=hole if here else None)


def skipped(state: Any) -> Span | None:
    """What a consumer has read of a partition after its last record, and held none; each only once."""
    found, state.skipped = getattr(state, "skipped", None), None
    return None if found is None or found[0] == found[1] else Span([], *found)


def install() -> None:
    """From now on every consumer of this process returns spans. Nothing changes when it is called again."""
    fetcher.MemoryRecords, fetcher.PartitionRecords, fetcher.FetchResult = _Batches, _Records, _Result
