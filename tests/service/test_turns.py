"""Turns of lanes, with an event loop and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from processor.turns import Turns

FOREVER = 60.0


async def until_blocked() -> None:
    """Let everybody go as far as they get."""
    for _ in range(20):
        await asyncio.sleep(0)


class Lane:
    """Works whenever it has a turn, until it is told to end."""

    def __init__(self, turns: Turns, begun: list[Lane]) -> None:
        self.end = asyncio.Event()
        self.task = asyncio.create_task(self._work(turns, begun))

    async def _work(self, turns: Turns, begun: list[Lane]) -> None:
        async with turns.turn():
            begun.append(self)
            await self.end.wait()


async def test_turns_are_had_in_order_and_never_by_more_than_there_are() -> None:
    turns, begun = Turns(2, FOREVER), list[Lane]()
    lanes = [Lane(turns, begun) for _ in range(5)]
    for ended in range(5):
        await until_blocked()
        assert begun == lanes[: 2 + ended]
        lanes[ended].end.set()
    await asyncio.gather(*[lane.task for lane in lanes])


async def test_a_lane_that_waits_for_kafka_holds_up_the_others_no_longer_than_their_patience() -> None:
    turns, begun = Turns(1, 0.01), list[Lane]()
    stuck, other = Lane(turns, begun), Lane(turns, begun)
    other.end.set()
    await asyncio.wait_for(other.task, 10)
    # It had no turn, so it gave none back: the next one waits again.
    third = Lane(turns, begun)
    await until_blocked()
    assert begun == [stuck, other]
    for lane in (stuck, third):
        lane.end.set()
    await asyncio.wait_for(asyncio.gather(stuck.task, third.task), 10)


async def test_a_lane_that_fails_or_is_cancelled_gives_its_turn_back() -> None:
    turns, begun = Turns(1, FOREVER), list[Lane]()
    with pytest.raises(ZeroDivisionError):
        async with turns.turn():
            raise ZeroDivisionError
    working, waiting = Lane(turns, begun), Lane(turns, begun)
    await until_blocked()
    waiting.task.cancel()
    working.task.cancel()
    last = Lane(turns, begun)
    last.end.set()
    await asyncio.wait_for(last.task, 10)
    assert begun == [working, last]
