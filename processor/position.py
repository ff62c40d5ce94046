"""Where a lane goes on, and when it must not.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping


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


def hole(offset: int) -> str:
    """How a log contradicts itself that goes on, but not at this offset."""
    return f"records from offset {offset} on are missing in the middle of the log"


def shortened(logs: Mapping[str, int], ends: Mapping[str, int]) -> str | None:
    """How changelogs contradict the state that was committed; None if they do not. Both by table."""
    short = [f"{table} ends at {ends[table]}, it went to {end}" for table, end in logs.items() if ends[table] < end]
    return f"changelogs have lost their end ({', '.join(short)})" if short else None
