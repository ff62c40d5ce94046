"""What stands with a committed offset, and when a log contradicts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import last_read
from pipeline.errors import ForeignOffset
from pipeline.last_read import Last
from processor import bounds, marks, position
from processor.bounds import Bounds
from processor.marks import Mark
from tests.unit.records import NOON, FakeRecord

LIMITS = Bounds(until=10, resume=20)
LAST = last_read.last_of(FakeRecord(19, b"value"), 3)
OFFSETS = st.integers(0, 2**62)


def test_a_record_is_known_again_by_its_place_its_time_and_its_content() -> None:
    assert last_read.same(LAST, FakeRecord(19, b"value"))
    for other in (
        FakeRecord(18, b"value"),
        FakeRecord(19, b"value", timestamp=NOON + 1),
        FakeRecord(19, b"other"),
        FakeRecord(19, None),
        FakeRecord(19, b"value", key=None),
        FakeRecord(19, b"mvalue", key=b"ann@example.co"),  # the same bytes in a row
        None,
    ):
        assert not last_read.same(LAST, other)


@given(
    st.none()
    | st.builds(Last, offset=OFFSETS, at=OFFSETS, digest=st.text("0f", max_size=16), epoch=st.integers(-1, 2**31)),
    st.dictionaries(st.sampled_from(["seen", "suppressions", "calls", "incidents"]), OFFSETS),
    st.booleans(),
)
def test_it_is_read_as_it_was_written_and_fits_into_what_kafka_takes(
    last: Last | None, logs: dict[str, int], limited: bool
) -> None:
    mark = Mark(last=last, logs=logs, bounds=LIMITS if limited else None)
    written = marks.write(mark, 19)
    assert marks.read(written) == mark
    assert len(written.encode()) < 4096


def test_the_bounds_end_where_the_replay_does_and_the_record_stays_known() -> None:
    assert marks.read(marks.write(Mark(last=LAST, bounds=LIMITS), 20)) == Mark(last=LAST)


def test_what_a_former_release_wrote_is_read() -> None:
    assert marks.read("") == Mark()
    assert marks.read(bounds.write(LIMITS, 12)) == Mark(bounds=LIMITS)


@pytest.mark.parametrize("metadata", ["consumer-1", "{}", "[]", '{"v":3}', '{"v":2,"more":1}', '{"v":1}', "\udc80"])
def test_what_somebody_else_left_is_refused(metadata: str) -> None:
    with pytest.raises(ForeignOffset, match="none of postlog's"):
        marks.read(metadata)


def test_the_record_that_is_further_on_counts_while_a_replay_goes_on() -> None:
    earlier = last_read.last_of(FakeRecord(5, b""), 3)
    assert marks.newest(LAST, earlier) == marks.newest(earlier, LAST) == LAST
    assert marks.newest(None, LAST) == marks.newest(LAST, None) == LAST
    assert marks.newest(None, None) is None


@pytest.mark.parametrize(
    ("record", "first", "words"),
    [
        (FakeRecord(19, b"value"), 0, None),
        (None, 20, None),  # retention has removed it
        (None, 0, "nothing stands at offset 19"),
        (FakeRecord(19, b"new"), 0, "another record stands at offset 19"),
    ],
)
def test_another_record_in_the_place_of_the_last_one_is_noticed(
    record: FakeRecord | None, first: int, words: str | None
) -> None:
    found = last_read.replaced(LAST, record, first=first)
    assert (found is None) if words is None else (found is not None and words in found)
    assert last_read.replaced(None, record, first=first) is None


def test_a_changelog_that_ends_before_what_was_committed_is_named() -> None:
    assert position.shortened({"seen": 5, "calls": 7}, {"seen": 5, "calls": 9}) is None
    found = position.shortened({"seen": 5, "calls": 7}, {"seen": 5, "calls": 6})
    assert found is not None
    assert "calls ends at 6, it went to 7" in found
