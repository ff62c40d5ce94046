"""Counting the keys of an earlier release: all lanes, all keys, a little at a time."""

from __future__ import annotations

from typing import cast

import pytest

from processor import former_keys, metrics
from processor.former_keys import SLICE, FormerKeys
from processor.lane import Lane


class FakeLane:
    """A lane whose part of the list has these keys."""

    def __init__(self, number: int, keys: list[str]) -> None:
        self.number = number
        self.is_open = True
        self.keys = sorted(key.encode() for key in keys)

    def listed(self, most: int, from_key: bytes) -> list[bytes]:
        assert self.is_open
        return [key for key in self.keys if key >= from_key][:most]


def shown(lane: FakeLane) -> float | None:
    (gauge,) = metrics.FORMER_KEYS.collect()
    found = {sample.labels["partition"]: sample.value for sample in gauge.samples}
    return found.get(str(lane.number))


async def look(found: FormerKeys, *lanes: FakeLane) -> None:
    await found.look([cast("Lane", lane) for lane in lanes])


async def test_every_key_of_every_open_lane_is_looked_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    found, plain = FormerKeys(), [f"p{number}@example.com" for number in range(2 * SLICE)]
    large = FakeLane(901, [*plain, "<ann@example.com>", "zoe@bücher.example", "a@example.com,b@example.com"])
    small, closed = FakeLane(902, plain[:3]), FakeLane(903, plain)
    closed.is_open = False
    await look(found, large, small, closed)
    assert [shown(lane) for lane in (large, small, closed)] == [None, None, None]
    for _ in range(3):
        await look(found, large, small, closed)
    # What is no address any more cannot be joined.
    assert [shown(lane) for lane in (large, small, closed)] == [2, 0, None]
    assert capsys.readouterr().out.count(former_keys.CURE) == 1
    large.keys = []
    await look(found, large, small, closed)
    assert shown(large) == 2


async def test_nothing_is_shown_of_a_lane_that_is_gone_and_another_owner_begins_anew() -> None:
    found, lane = FormerKeys(), FakeLane(904, ["<ann@example.com>"])
    for _ in range(2):
        await look(found, lane)
    assert shown(lane) == 1
    lane.is_open = False
    await look(found, lane)
    assert shown(lane) is None
    again = FakeLane(904, ["ann@example.com"])
    for _ in range(2):
        await look(found, again)
    assert shown(again) == 0
