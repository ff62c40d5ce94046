"""Whether a copy may go on from its changelog: what may know more than the log is never stale."""

from __future__ import annotations

import pytest

from pipeline import last_read
from processor import place
from processor.place import Extent, Fit, Found, Place
from tests.unit.records import FakeRecord

DAY = 86_400_000
NOW = 1_767_225_600_000


def record(offset: int, value: bytes = b"v", *, age: int = 0) -> FakeRecord:
    return FakeRecord(offset, value, timestamp=NOW - age)


def at(following: int, last: int, *, age: int = 0) -> Place:
    """A copy that read a record at `last` and, behind it, the end of its transaction."""
    return Place(following, last_read.last_of(record(last, age=age), -1))


def judged(kept: Place, log: Extent, *, former: bool = False, compacted: bool = True) -> Fit:
    return place.judge(kept, log, former=former, now=NOW, tombstones_last=DAY if compacted else None).fit


@pytest.mark.parametrize("compacted", [True, False])
@pytest.mark.parametrize(
    ("kept", "log"),
    [
        (Place(0), Extent(0, 0)),
        (Place(0), Extent(0, 9)),
        (at(8, 7), Extent(0, 9, record(7))),
        (at(9, 7), Extent(0, 9, record(7))),
        (at(9, 7), Extent(0, 90, record(7))),
        (at(9, 7), Extent(9, 90)),  # retention has taken the last record
    ],
)
def test_a_log_that_goes_on_where_the_copy_stands_is_continued(kept: Place, log: Extent, compacted: bool) -> None:
    assert judged(kept, log, compacted=compacted) is Fit.CONTINUES


@pytest.mark.parametrize("compacted", [True, False])
@pytest.mark.parametrize("age", [0, 30 * DAY])
@pytest.mark.parametrize(
    ("kept_next", "log"),
    [
        (9, Extent(0, 8)),
        (9, Extent(0, 0)),
        (9, Extent(0, 9, record(7, b"another"))),
        (9, Extent(0, 90, record(7, b"another"))),
    ],
)
def test_a_log_that_ends_earlier_or_holds_another_record_is_suspect_however_old_the_copy_is(
    kept_next: int, log: Extent, age: int, compacted: bool
) -> None:
    assert judged(at(kept_next, 7, age=age), log, compacted=compacted) is Fit.SUSPECT


def test_the_same_content_written_again_at_another_time_is_another_record() -> None:
    assert judged(at(9, 7), Extent(0, 90, record(7, age=-60_000))) is Fit.SUSPECT


def test_where_the_last_record_is_gone_the_copy_is_suspect_unless_it_is_too_old_to_tell() -> None:
    assert judged(at(9, 7), Extent(0, 90)) is Fit.SUSPECT
    assert judged(at(9, 7, age=DAY), Extent(0, 90)) is Fit.STALE
    assert judged(at(9, 7, age=DAY), Extent(0, 90), compacted=False) is Fit.SUSPECT


def test_only_a_place_before_the_start_of_the_log_is_stale() -> None:
    assert judged(at(9, 7), Extent(10, 90)) is Fit.STALE


@pytest.mark.parametrize(("age", "fit"), [(DAY // 2, Fit.CONTINUES), (DAY // 2 + 1, Fit.STALE), (-DAY, Fit.STALE)])
def test_a_copy_so_old_that_tombstones_may_have_come_and_gone_is_stale(age: int, fit: Fit) -> None:
    log = Extent(0, 90, record(7, age=age))
    assert judged(at(9, 7, age=age), log) is fit
    assert judged(at(9, 7, age=age), log, compacted=False) is Fit.CONTINUES


@pytest.mark.parametrize("end", [9, 10])
def test_a_copy_however_old_of_a_log_that_nobody_wrote_to_is_continued(end: int) -> None:
    # Nothing, or the end of the copy's own last transaction.
    assert judged(at(9, 8, age=30 * DAY), Extent(0, end, record(8, age=30 * DAY))) is Fit.CONTINUES


def test_a_place_of_a_former_release_is_read_and_trusted_only_where_nothing_was_written_since() -> None:
    kept, former = place.decode(b"9")
    assert (kept, former) == (Place(9), True)
    assert judged(kept, Extent(0, 10), former=True) is Fit.CONTINUES
    assert judged(kept, Extent(0, 90), former=True) is Fit.STALE
    assert judged(kept, Extent(0, 90), former=True, compacted=False) is Fit.CONTINUES
    assert judged(kept, Extent(0, 8), former=True) is Fit.SUSPECT


def test_a_place_comes_back_from_the_store_as_it_went_in() -> None:
    for kept in (Place(0), Place(12), at(9, 7)):
        assert place.decode(place.encode(kept)) == (kept, False)


def test_to_keep_a_copy_goes_before_throwing_it_away() -> None:
    found = {"a-1": Found(Fit.STALE, "old"), "b-1": Found(Fit.SUSPECT, "short"), "c-1": Found(Fit.CONTINUES)}
    assert place.worst(found) == (Fit.SUSPECT, "b-1: short")
    assert place.worst({"a-1": Found(Fit.STALE, "old")}) == (Fit.STALE, "a-1: old")
    assert place.worst({"c-1": Found(Fit.CONTINUES)})[0] is Fit.CONTINUES
