"""The bounds of a replay: however records come in batches, each is treated as the bounds say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import contract
from pipeline.errors import ForeignOffset
from processor import bounds
from processor.bounds import Bounds, Mode
from tests.unit.records import FakeRecord

LIMITS = Bounds(until=10, resume=20, handlers=False)


def modes(first: int, sizes: list[int], limits: Bounds | None) -> dict[int, Mode]:
    """How each record is treated when they come in batches of these sizes."""
    found: dict[int, Mode] = {}
    for size in sizes:
        batch = [FakeRecord(offset, b"") for offset in range(first, first + size)]
        cut = bounds.parts(batch, limits)
        assert [record for part, _ in cut for record in part] == batch
        found |= {record.offset: mode for part, mode in cut for record in part}
        first += size
    return found


@given(st.integers(0, 30), st.lists(st.integers(0, 15), max_size=8), st.booleans())
def test_any_batching_treats_every_record_the_same(first: int, sizes: list[int], handlers: bool) -> None:
    limits = Bounds(until=10, resume=20, handlers=handlers)
    found = modes(first, sizes, limits)
    assert found == modes(first, [1] * sum(sizes), limits)
    for offset, mode in found.items():
        again: Mode = "whole" if handlers else "silent"
        assert mode == (again if offset < 10 else "skip" if offset < 20 else "whole")


def test_without_bounds_everything_is_as_always() -> None:
    assert set(modes(0, [5, 5], None).values()) == {"whole"}
    assert bounds.parts([], LIMITS) == []


def test_they_are_carried_until_the_former_place_is_reached() -> None:
    assert bounds.read(bounds.write(LIMITS, 19)) == LIMITS
    assert bounds.write(LIMITS, 20) == ""
    assert bounds.write(None, 5) == ""
    assert bounds.read("") is None


@pytest.mark.parametrize(
    "metadata", ["consumer-1", "{}", "[]", '{"v":2,"until":1,"resume":2}', '{"until":-1,"resume":2}']
)
def test_what_somebody_else_left_is_refused(metadata: str) -> None:
    with pytest.raises(ForeignOffset, match="none of postlog's"):
        bounds.read(metadata)


REPLAY = Bounds(start=10, until=20, resume=25)


@pytest.mark.parametrize(
    ("offset", "header", "limits", "repeats"),
    [
        (15, b"3:10:0", REPLAY, True),
        (19, b"3:14:0", REPLAY, True),
        # Its original is not processed again, so this is the only failure that the replay can tell of.
        (15, b"3:9:0", REPLAY, False),
        # It is new: who sent it round wants to know what becomes of it.
        (20, b"3:10:0", REPLAY, False),
        (15, b"nonsense", REPLAY, False),
        (15, b"4:10:0", REPLAY, False),  # of another partition
        (15, None, REPLAY, False),
        (15, b"3:10:0", Bounds(until=20, resume=25), False),
        (15, b"3:10:0", None, False),
    ],
)
def test_a_copy_is_answered_by_its_original_if_that_is_processed_again_too(
    offset: int, header: bytes | None, limits: Bounds | None, repeats: bool
) -> None:
    headers = [] if header is None else [(contract.HEADER_ORIGIN, header)]
    assert bounds.repeats(FakeRecord(offset, b"", headers=headers), 3, limits) is repeats
