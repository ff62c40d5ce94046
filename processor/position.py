"""Where a lane goes on, and when it must not.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.contract import Record
from processor import marks
from processor.marks import Last


def start_of(committed: int | None, *, first: int) -> int:
    """The offset to go on from: the committed one, or on the very first start the oldest there is."""
    return first if committed is None else committed


def contradiction(committed: int | None, *, first: int, end: int, used: bool) -> str | None:
    """How the log, which holds offsets from `first` to before `end`, contradicts the committed offset; None if not.

    used  the lane has state, and committed an offset in the transaction that wrote it
    """
    if committed is None:
        return (
            "the group's offsets are gone, though its state is there: Kafka forgot an empty group" if used else None
        )
    if committed < first:
        return f"records {committed} to {first - 1} expired before they were processed"
    if committed > end:
        return f"the log ends at {end}, before the committed offset {committed}: the cluster has lost its end"
    return None


def replaced(last: Last | None, record: Record | None, *, first: int) -> str | None:
    """How the log contradicts what was processed last; None if it does not, or nobody can know any more.

    record  what stands now where the last one stood, None if nothing does
    first   the oldest offset on the log: what retention has removed is not missed
    """
    if last is None or last.offset < first or marks.same(last, record):
        return None
    there = "nothing" if record is None else "another record"
    return (
        f"{there} stands at offset {last.offset}, where the last processed record stood: "
        "the cluster has lost the end of the log, and gives its offsets again"
    )


def hole(offset: int) -> str:
    """How a log contradicts itself that goes on, but not at this offset."""
    return f"records from offset {offset} on are missing in the middle of the log"


def shortened(logs: Mapping[str, int], ends: Mapping[str, int]) -> str | None:
    """How changelogs contradict the state that was committed; None if they do not. Both by table."""
    short = [f"{table} ends at {ends[table]}, it went to {end}" for table, end in logs.items() if ends[table] < end]
    return f"changelogs have lost their end ({', '.join(short)})" if short else None
