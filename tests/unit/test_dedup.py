"""The identity rule: every row, both edges of the window, and replays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract import Position
from pipeline.errors import Undecodable
from processor import dedup
from processor.dedup import WINDOW_MS, Verdict, judge

SECOND = 1000
FIRST, AGAIN, DUPLICATE = Verdict.FIRST, Verdict.AGAIN, Verdict.DUPLICATE


@pytest.mark.parametrize(
    ("markers", "verdict"),
    [
        pytest.param([], FIRST, id="no marker"),
        pytest.param([Position(100, WINDOW_MS)], AGAIN, id="same offset"),
        pytest.param([Position(40, WINDOW_MS)], DUPLICATE, id="lower offset, same moment"),
        pytest.param([Position(40, SECOND)], DUPLICATE, id="lower offset, 47:59:59 earlier"),
        pytest.param([Position(40, 0)], DUPLICATE, id="lower offset, 48:00:00 earlier"),
        pytest.param([Position(40, -SECOND)], FIRST, id="lower offset, 48:00:01 earlier"),
        pytest.param([Position(101, WINDOW_MS + 5)], FIRST, id="higher offset"),
        pytest.param([Position(40, WINDOW_MS + 5)], DUPLICATE, id="lower offset, arrival after ours"),
        pytest.param([Position(100, WINDOW_MS), Position(40, SECOND)], DUPLICATE, id="a replay found an older first"),
        pytest.param([Position(100, WINDOW_MS), Position(40, -SECOND)], AGAIN, id="older one out of the window"),
        pytest.param([Position(300, WINDOW_MS), Position(40, SECOND)], DUPLICATE, id="later marker, older first"),
    ],
)
def test_a_marker_decides_what_a_record_is(markers: list[Position], verdict: Verdict) -> None:
    assert judge(Position(100, WINDOW_MS), markers) is verdict


def test_the_window_reaches_across_the_edge_of_a_bucket() -> None:
    just_before, just_after = WINDOW_MS - 1, WINDOW_MS
    assert dedup.bucket(just_after) == dedup.bucket(just_before) + 1
    assert judge(Position(2, just_after), [Position(1, just_before)]) is DUPLICATE


@given(st.integers(0, 2**40), st.integers(0, WINDOW_MS))
def test_whatever_is_within_the_window_is_in_this_bucket_or_the_one_before(at: int, age: int) -> None:
    first = max(at - age, 0)
    assert dedup.bucket(at) - dedup.bucket(first) in (0, 1)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16))
def test_keys_of_an_older_bucket_sort_below_the_first_key_of_a_newer_one(one: int, other: int, digest: bytes) -> None:
    older, newer = sorted((one, other))
    assert (dedup.key(older, digest) < dedup.first_key(newer)) == (older < newer)


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_marker_survives_being_packed(offset: int, at: int) -> None:
    assert dedup.unpack(dedup.pack(Position(offset, at))) == Position(offset, at)


def test_the_same_id_of_two_providers_is_two_events() -> None:
    assert dedup.digest("a", "bc") != dedup.digest("ab", "c")
    assert dedup.digest("a", "1") != dedup.digest("b", "1")


def test_pages_give_back_every_marker_in_order_also_beyond_one_page() -> None:
    written = {
        dedup.key(5, n.to_bytes(16, "big")): dedup.pack(Position(n, n)) for n in range(dedup.PAGE_ROWS * 2 + 3)
    }
    pages = dedup.pages(written)
    assert [len(page) // 36 for page in pages] == [dedup.PAGE_ROWS, dedup.PAGE_ROWS, 3]
    assert [row for page in pages for row in dedup.rows_of(None, page)] == list(written.items())
    assert dedup.pages({}) == []


def test_a_record_with_a_key_is_one_marker_or_its_end() -> None:
    assert dedup.rows_of(b"k", b"v") == [(b"k", b"v")]
    assert dedup.rows_of(b"k", None) == [(b"k", None)]


def test_a_page_that_is_cut_short_is_refused() -> None:
    with pytest.raises(Undecodable, match="37 bytes are no page"):
        dedup.rows_of(None, b"x" * 37)
