"""Whether the log that a lane reads is still the one that was processed.

A shell over one aiokafka consumer; position.py says what a contradiction is.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline import peek
from pipeline.last_read import Last
from processor import position


@dataclass(frozen=True, slots=True)
class Log:
    """What was found.

    problem  how the log contradicts what was processed; None if it does not
    first    its oldest offset
    epoch    of the last record, -1 if unknown
    """

    problem: str | None
    first: int
    epoch: int = -1


async def check(
    reader: AIOKafkaConsumer,
    source: TopicPartition,
    committed: int | None,
    last: Last | None,
    *,
    used: bool,
    remade: bool,
) -> Log:
    """Look at the log before anything of it is read; see `position.contradiction` for used and remade."""
    first: int = (await reader.beginning_offsets([source]))[source]
    oldest = await peek.at(reader, source, first)
    end = oldest.end if oldest else first
    problem = position.contradiction(committed, first=first, end=end, used=used, remade=remade)
    if problem or committed is None:
        return Log(problem, first)
    epoch = -1
    if last is not None:
        problem, epoch = await peek.compare(reader, source, last, first=first)
        if problem:
            return Log(problem, first)
    there = await peek.at(reader, source, committed)
    if there and there.first is not None and there.first > committed:
        problem = position.hole(committed)
    return Log(problem, first, epoch)


async def goes_on(
    consumer: AIOKafkaConsumer,
    source: TopicPartition,
    committed: int | None,
    last: Last | None,
    *,
    first: int,
    end: int,
    remade: bool,
) -> int | None:
    """Where the log [first, end) goes on with what was never processed, if it contradicts the offset; else None.

    remade  the offset is of another topic of the same name

    Also where nobody can tell, because what was processed last is not known: then it is the beginning.
    """
    if remade or committed is None or committed < first:
        return first
    if last is not None and last.offset >= first:
        problem, _ = await peek.compare(consumer, source, last, first=first)
        if problem:
            return await _diverged(consumer, source, last, first=first, end=end)
    if committed > end:
        return first
    there = await peek.at(consumer, source, committed)
    return there.first if there and there.first is not None and there.first > committed else None


async def _diverged(consumer: AIOKafkaConsumer, source: TopicPartition, last: Last, *, first: int, end: int) -> int:
    """The first offset that was given again after the last processed record was lost.

    Leader epochs only grow along a log, and a broker that lost the end of its log has had to take the lead anew.
    """
    low, high = first, min(last.offset + 1, end)
    if last.epoch < 0:
        return first
    while low < high:
        middle = (low + high) // 2
        found = await peek.at(consumer, source, middle)
        if found is not None and found.epoch > last.epoch:
            high = middle
        else:
            low = middle + 1
    # No later epoch though another record is there: somebody replaced the log as a whole.
    return first if low > last.offset else low
