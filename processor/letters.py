"""The dead letters of a lane: rows for the dead-letter topic.

Pure. A letter is the original record with why nobody could process it; `pipeline.deadletter` spells the headers.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline import deadletter
from pipeline.deadletter import Source
from processor.calls import UsedUp
from processor.decide import Rejected

#: One row of a topic: key, value, headers.
Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def of_rejected(found: Iterable[Rejected], *, topic: str, partition: int, group: str, now: int) -> list[Row]:
    """Letters of records that could not be processed; now in ms."""
    letters: list[Row] = []
    for rejected in found:
        record = rejected.record
        source = Source(topic, partition, record.offset, record.timestamp, group)
        added = deadletter.headers(rejected.error, stage="processor", now=now, source=source)
        letters.append((record.key, record.value, [*deadletter.original_headers(record.headers), *added]))
    return letters


def of_used_up(found: Iterable[UsedUp], *, topic: str, partition: int, group: str, now: int) -> list[Row]:
    """Letters of events that a handler gave up; now in ms."""
    letters: list[Row] = []
    for used_up in found:
        call = used_up.call
        added = deadletter.headers(
            used_up.error,
            stage="processor",
            now=now,
            source=Source(topic, partition, call.offset, call.timestamp, group),
            tries=used_up.dead.tries,
            first_failure=used_up.dead.first_failure,
            handler=call.handler,
        )
        letters.append((call.key, call.value, [*deadletter.original_headers(call.headers), *added]))
    return letters
