"""Where offsets go: from where the log and the group are to what happens to each partition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import rewind
from console.rewind import Move, Partition
from pipeline.errors import PostlogError
from pipeline.last_read import Last
from processor import marks
from processor.bounds import Bounds
from processor.marks import Mark

NOW = 1_769_860_800_000  # 2026-01-31T12:00:00Z
HOUR = 3_600_000
MIDNIGHT = NOW - 12 * HOUR


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", NOW - 2 * HOUR),
        ("3d", NOW - 72 * HOUR),
        ("1d12h", NOW - 36 * HOUR),
        ("90s", NOW - 90_000),
        ("2w", NOW - 14 * 24 * HOUR),
        ("0s", NOW),
        ("99999w", 0),
        ("2026-01-31", MIDNIGHT),
        ("2026-01-31T08:00:00Z", MIDNIGHT + 8 * HOUR),
        ("2026-01-31T08:00:00.250Z", MIDNIGHT + 8 * HOUR + 250),
        ("2026-01-31T08:00:00+02:00", MIDNIGHT + 6 * HOUR),
        ("2026-01-31T08:00:00", MIDNIGHT + 8 * HOUR),
        ("1969-12-31", 0),
    ],
)
def test_a_time_is_a_duration_a_day_or_rfc_3339(text: str, at: int) -> None:
    assert rewind.moment(text, NOW) == at


@pytest.mark.parametrize("text", ["", "yesterday", "2", "h", "-2h", "2 h", "2026-13-01", "12:00"])
def test_what_is_no_time_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(PostlogError, match=r"2h or 3d.*2026-01-31.*RFC 3339"):
        rewind.moment(text, NOW)


def test_a_partition_and_its_offset_are_two_numbers() -> None:
    assert rewind.offset("3:1200") == (3, 1200)
    for wrong in ("3", "3:", ":1", "3:-1", "a:1", "3:1:2"):
        with pytest.raises(PostlogError, match="PARTITION:OFFSET"):
            rewind.offset(wrong)


def test_the_beginning_reads_again_what_is_committed_and_still_there() -> None:
    [move] = rewind.to_beginning([Partition(0, beginning=10, end=50, committed=40)])
    assert (move.new, move.again, move.skipped, move.gone) == (10, 30, 0, 10)


def test_a_partition_that_never_committed_is_at_its_beginning_and_gets_an_offset() -> None:
    [move] = rewind.to_beginning([Partition(0, beginning=10, end=50, committed=None)])
    assert (move.committed, move.new, move.again) == (10, 10, 0)
    assert rewind.offsets([move]) == {0: (10, 10)}
    assert rewind.refusal([move]) is None


def test_a_time_after_the_end_changes_nothing_even_where_events_wait() -> None:
    moves = rewind.to_times([Partition(0, 0, 50, 40), Partition(1, 0, 9, None)], {0: None, 1: None})
    assert rewind.offsets(moves) == {}
    assert rewind.refusal(moves) is None


def test_a_time_before_the_log_is_its_beginning_and_says_what_is_gone() -> None:
    [move] = rewind.to_times([Partition(0, 10, 50, 40)], {0: 10})
    assert (move.new, move.gone) == (10, 10)
    [inside] = rewind.to_times([Partition(0, 10, 50, 40)], {0: 11})
    assert (inside.new, inside.gone) == (11, 0)


def test_a_time_past_the_committed_offset_would_skip_events_and_is_refused() -> None:
    moves = rewind.to_times([Partition(0, 0, 50, 40), Partition(1, 0, 50, 50)], {0: 45, 1: 20})
    refused = rewind.refusal(moves)
    assert refused is not None
    assert "5 events" in refused
    assert "partition 0 (40 to 44)" in refused
    assert "--skip-unprocessed" in refused


def test_events_that_expired_unprocessed_count_as_skipped() -> None:
    moves = rewind.to_beginning([Partition(0, beginning=45, end=50, committed=40)])
    assert (moves[0].skipped, rewind.refusal(moves) is None) == (5, False)


def test_only_the_partitions_that_are_named_move() -> None:
    partitions = [Partition(0, 5, 50, 40), Partition(1, 0, 50, 40), Partition(2, 0, 50, 40)]
    moves = rewind.to_offsets(partitions, [(0, 2), (2, 7)])
    assert rewind.offsets(moves) == {0: (40, 5), 2: (40, 7)}
    assert [move.gone for move in moves] == [3, 0, 0]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ([(2, 0)], "no partition 2, they are 0 to 1"),
        ([(0, 1), (0, 2)], "named twice"),
        ([(1, 51)], "ends at 50"),
    ],
)
def test_an_offset_that_is_not_there_is_refused(wanted: list[tuple[int, int]], reason: str) -> None:
    with pytest.raises(PostlogError, match=reason):
        rewind.to_offsets([Partition(0, 0, 50, 40), Partition(1, 0, 50, 40)], wanted)


def test_after_a_loss_a_partition_goes_on_with_what_is_new_and_the_others_stay() -> None:
    last = Last(offset=39, at=NOW, digest="0f", epoch=2)
    bounded = Bounds(until=10, resume=40)
    partitions = [
        Partition(0, 0, 38, 40, last=last),
        Partition(1, 5, 50, None),
        Partition(2, 0, 50, 20, bounded, last),
    ]
    moves = rewind.after_loss(partitions, {0: 35, 1: 5})
    assert rewind.offsets(moves) == {0: (40, 35), 1: (5, 5), 2: (20, 20)}
    assert [move.again for move in moves] == [0, 0, 0]
    assert [marks.read(move.metadata) for move in moves] == [Mark(), Mark(), Mark(bounds=bounded, last=last)]


def test_what_was_processed_last_stays_known_in_a_bounded_replay_and_not_in_another() -> None:
    partition = Partition(0, 0, 50, 40, last=Last(offset=39, at=NOW, digest="0f"))
    moves = rewind.to_offsets([partition], [(0, 10)])
    assert marks.read(moves[0].metadata) == Mark(bounds=Bounds(start=10, until=40, resume=40))
    [bounded] = rewind.bounded(moves, [partition], None, handlers=False)
    assert marks.read(bounded.metadata).last == partition.last


LOGS = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)).map(
    lambda three: Partition(0, three[0], three[0] + three[1], three[0] + min(three[1], three[2]))
)


@given(LOGS, st.one_of(st.none(), st.integers(0, 40)))
def test_every_answer_lies_in_the_log_and_counts_what_is_between(partition: Partition, found: int | None) -> None:
    at = found if found is None else min(max(found, partition.beginning), partition.end)
    [move] = rewind.to_times([partition], {0: at})
    assert partition.beginning <= move.new <= partition.end
    assert move.committed - move.new == move.again - move.skipped
    assert min(move.again, move.skipped) == 0


@given(LOGS, st.integers(0, 40))
def test_the_way_back_leads_back(partition: Partition, new: int) -> None:
    moves = rewind.to_offsets([partition], [(0, min(new, partition.end))])
    back = rewind.way_back(moves)
    if not rewind.offsets(moves):
        assert back == []
        return
    moved = Partition(0, partition.beginning, partition.end, moves[0].new)
    [returned] = rewind.to_offsets([moved], [rewind.offset(back[2])])
    assert returned.new == moves[0].committed
    assert (rewind.refusal([returned]) is None) or "--skip-unprocessed" in back


def limits(move: Move) -> Bounds | None:
    return marks.read(move.metadata).bounds


def test_a_bounded_replay_ends_at_its_time_and_goes_on_where_the_group_was() -> None:
    partitions = [Partition(n, 0, 50, 40) for n in range(4)]
    moves = rewind.to_times(partitions, {0: 10, 1: 10, 2: 10, 3: 10})
    bounded = rewind.bounded(moves, partitions, {0: 25, 1: None, 2: 45, 3: 10}, handlers=True)
    assert [(m.new, m.again, m.passed) for m in bounded] == [(10, 15, 15), (10, 30, 0), (10, 30, 0), (40, 0, 0)]
    assert limits(bounded[0]) == Bounds(start=10, until=25, resume=40)
    # Nothing is left out, so only where it began is carried, and what was processed last is not.
    assert [limits(m) for m in bounded[1:]] == [Bounds(start=10, until=40, resume=40)] * 2 + [None]
    assert [marks.read(m.metadata).last for m in bounded] == [None] * 4


def test_without_handlers_the_bounds_end_where_the_group_was() -> None:
    partitions = [Partition(0, 0, 50, 40), Partition(1, 0, 50, 40)]
    moves = rewind.to_offsets(partitions, [(0, 5)])
    (first, second) = rewind.bounded(moves, partitions, None, handlers=False)
    assert (first.again, first.passed, limits(first)) == (35, 0, Bounds(start=5, until=40, resume=40, handlers=False))
    assert (second.new, second.metadata) == (40, "")


def test_a_second_replay_knows_how_far_processing_had_been() -> None:
    (half_way,) = partitions = [Partition(0, 0, 50, committed=12, bounds=Bounds(until=20, resume=40))]
    assert half_way.processed == 40
    (plain,) = rewind.to_beginning(partitions)
    assert (plain.again, plain.skipped, limits(plain)) == (40, 0, Bounds(start=0, until=40, resume=40))
    (forward,) = rewind.to_offsets(partitions, [(0, 40)])
    assert (forward.again, forward.skipped) == (0, 0)
    (again,) = rewind.bounded([plain], partitions, {0: 30}, handlers=True)
    assert limits(again) == Bounds(start=0, until=30, resume=40)


def test_a_log_that_has_lost_its_end_is_not_read_beyond_it() -> None:
    (moved,) = rewind.to_beginning([Partition(0, 0, 38, 40)])
    assert limits(moved) == Bounds(start=0, until=38, resume=38)
