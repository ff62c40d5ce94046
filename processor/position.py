"""Where a lane goes on, and when it must not.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Nobody can tell which of these it was: with the group's offset what is known of the log is gone.
FORGOTTEN = (
    "the group's offsets are gone, though its state is there: somebody deleted the group, or the topic and made it "
    "anew, or Kafka forgot a group that was empty for long"
)
REMADE = "the topic was deleted and made anew: events on the former one that were not processed are lost with it"


def start_of(committed: int | None, *, first: int) -> int:
    """The offset to go on from: the committed one, or on the very first start the oldest there is."""
    return first if committed is None else committed


def contradiction(committed: int | None, *, first: int, end: int, used: bool, remade: bool = False) -> str | None:
    """How the log, which holds offsets from `first` to before `end`, contradicts the committed offset; None if not.

    used    the lane has state, and committed an offset in the transaction that wrote it
    remade  it is another topic of the same name than the one that was processed
    """
    if remade:
        return REMADE
    if committed is None:
        return FORGOTTEN if used else None
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


def cure(before: str = "") -> str:
    """How to go on after records were lost; before is what to type first, if anything."""
    return f"To go on with what is there, stop all processors and type: {before}postlog replay --after-loss"
