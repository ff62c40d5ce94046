"""Whether the local list can go on from the log, and how far it is."""

from __future__ import annotations

import pytest

from lookup import progress
from lookup.progress import Again, Extent, Goal, Place, Progress

DAY = 86_400_000
NOW = 1_767_225_600_000


def why(kept: Progress | None, *extents: Extent, now: int = NOW) -> Again | None:
    return progress.why_start_over(kept, dict(enumerate(extents)), now=now, tombstones_last=DAY)


def at(**places: tuple[int, int]) -> Progress:
    return Progress(NOW, {int(name[1:]): Place(*place) for name, place in places.items()})


@pytest.mark.parametrize(
    ("kept", "extent"),
    [
        (at(p0=(5, 100)), Extent(0, 9, None)),
        (at(p0=(5, 100)), Extent(0, 9, 5)),
        (at(p0=(5, 100)), Extent(5, 5, None)),
        (at(), Extent(3, 9, None)),
    ],
)
def test_a_log_that_goes_on_where_we_stand_is_continued(kept: Progress, extent: Extent) -> None:
    assert why(kept, extent) is None


@pytest.mark.parametrize(
    ("extent", "reason", "lost"),
    [
        (Extent(6, 9, None), "we stand at 5", False),
        (Extent(0, 4, None), "we stand at 5", True),
        (Extent(0, 9, 4), "another record at 4", True),
    ],
)
def test_a_log_that_is_not_the_one_we_read_is_begun_again(extent: Extent, reason: str, lost: bool) -> None:
    found = why(at(p0=(5, 100)), extent)
    assert found
    assert reason in found.reason
    assert found.lost is lost


def test_what_the_log_may_have_lost_counts_more_than_the_age_of_the_list() -> None:
    found = why(at(p0=(5, 100)), Extent(0, 4, None), now=NOW + 30 * DAY)
    assert found
    assert found.lost


def test_one_partition_that_does_not_continue_is_enough_to_start_over() -> None:
    assert why(at(p0=(5, 100), p1=(7, 100)), Extent(0, 9, None), Extent(0, 6, None))


def test_a_partition_that_is_gone_starts_over() -> None:
    assert why(at(p0=(5, 100), p1=(7, 100)), Extent(0, 9, None))


def test_without_a_local_list_we_begin_at_the_beginning() -> None:
    assert why(None, Extent(0, 9, None))


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (DAY // 2, True), (DAY // 2 + 1, False), (-DAY, False)])
def test_a_list_so_old_that_tombstones_may_have_come_and_gone_is_begun_again(age: int, fresh: bool) -> None:
    assert (why(at(p0=(5, 100)), Extent(0, 9, None), now=NOW + age) is None) is fresh


def test_applying_records_moves_the_place_behind_the_last_and_never_back_in_time() -> None:
    first = progress.advanced(None, 6, [100, 300, 200])
    assert first == Place(7, 300)
    assert progress.advanced(first, 9, [250]) == Place(10, 300)


def test_a_record_as_new_as_what_we_read_plus_the_slack_does_not_betray_another_log() -> None:
    assert progress.newer_than(Place(7, 300)) > 300 + progress.CLOCK_SLACK


def test_progress_comes_back_from_the_store_as_it_went_in() -> None:
    kept = at(p0=(5, 100), p11=(2**40, NOW))
    assert progress.decode(progress.encode(kept)) == kept


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[1]"])
def test_progress_that_nobody_can_read_is_none(value: bytes | None) -> None:
    assert progress.decode(value) is None


@pytest.mark.parametrize(
    ("positions", "there"), [({0: 5, 1: 7}, True), ({0: 6, 1: 7}, True), ({0: 5, 1: 6}, False), ({0: 0, 1: 9}, False)]
)
def test_the_goal_is_reached_when_every_partition_is(positions: dict[int, int], there: bool) -> None:
    assert progress.reached(Goal(NOW, {0: 5, 1: 7}), positions) is there


def test_lag_is_what_lies_ahead_of_us_and_never_negative() -> None:
    assert progress.lag({0: 5, 1: 7}, {0: 9, 1: 4}) == 3


@pytest.mark.parametrize(
    ("lag", "in_sight", "idle", "stalled"),
    [(1, True, 61.0, True), (0, True, 61.0, False), (1, False, 61.0, False), (1, True, 60.0, False)],
)
def test_only_a_follower_that_is_behind_and_could_move_is_stalled(
    lag: int, in_sight: bool, idle: float, stalled: bool
) -> None:
    assert progress.stalled(lag=lag, in_sight=in_sight, idle=idle, limit=60.0) is stalled
