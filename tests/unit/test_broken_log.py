"""The tool that takes the end of a log away, on segments made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from tests.broken_log import batches, cut


def batch(first: int, records: int, *, transactional: bool = False) -> bytes:
    """A batch as a broker keeps it."""
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), -1, -1, -1, 10_000)
    for offset in range(records):
        builder.append(offset, timestamp=1_700_000_000_000, key=b"key", value=b"value", headers=[])
    built = builder.build()
    built[0:8] = first.to_bytes(8, "big")
    return bytes(built)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Logs of a stopped broker: one partition with two segments of three and two batches."""
    log = tmp_path / "events-3"
    log.mkdir()
    first = batch(5, 2) + batch(7, 1, transactional=True) + batch(8, 4)
    (log / f"{5:020}.log").write_bytes(first)
    (log / f"{12:020}.log").write_bytes(batch(12, 1) + batch(13, 3))
    for name in (f"{12:020}.index", f"{12:020}.timeindex", f"{16:020}.snapshot", "partition.metadata"):
        (log / name).write_bytes(b"x")
    for name in (".kafka_cleanshutdown", "recovery-point-offset-checkpoint", "meta.properties"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_batches_are_found_with_their_offsets_over_all_segments(data: Path) -> None:
    found = batches(data / "events-3")
    assert [(each.first, each.end) for each in found] == [(5, 7), (7, 8), (8, 12), (12, 13), (13, 16)]
    assert [each.transactional for each in found] == [False, True, False, False, False]
    assert not any(each.control for each in found)


@pytest.mark.parametrize(("count", "end"), [(1, 13), (2, 12), (3, 8), (5, 5)])
def test_the_last_batches_are_gone_and_those_before_are_as_they_were(data: Path, count: int, end: int) -> None:
    before = batches(data / "events-3")
    assert cut(data, "events", 3, count) == end
    left = batches(data / "events-3")
    assert left == before[:-count]
    for segment in (data / "events-3").glob("*.log"):
        kept = MemoryRecords(segment.read_bytes())
        while kept.has_next():
            assert kept.next_batch().validate_crc()


def test_what_kafka_would_believe_rather_than_the_log_is_gone(data: Path) -> None:
    cut(data, "events", 3, 1)
    names = {path.name for path in data.rglob("*") if path.is_file()}
    assert names == {f"{5:020}.log", f"{12:020}.log", "partition.metadata", "meta.properties"}


def test_more_than_there_is_cannot_be_taken_away(data: Path) -> None:
    with pytest.raises(AssertionError, match="has 5 batches"):
        cut(data, "events", 3, 6)
