"""What one transaction of a lane makes true, as rows of the topics and of the local store.

Pure; `hold.py` carries it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from pipeline.topics import Topics
from processor import dedup, letters
from processor.calls import Settled
from processor.decide import Changes
from processor.letters import Row
from processor.store import Table

#: Rows of a table to write, None where there is none any more.
Changed = dict[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Commit:
    """changes follow from records, settled from calls that ended; owed are calls to make, noted incidents."""

    changes: Changes
    settled: Settled
    owed: Changed
    noted: Changed

    def topics(self, topics: Topics, source: TopicPartition, group: str, *, now: int) -> dict[str, list[Row]]:
        """Rows by topic; the records come from `source`, which the group reads; now in ms."""
        place = {"topic": source.topic, "group": group}
        rejected = letters.of_rejected(self.changes.rejected, partition=source.partition, now=now, **place)
        used_up = letters.of_used_up(self.settled.dead, partition=source.partition, now=now, **place)
        return {
            topics.seen.name: [(None, page, []) for page in dedup.pages(self.changes.seen)],
            topics.suppressions.name: _rows(self.changes.suppressions),
            topics.calls.name: _rows(self.settled.rows | self.owed),
            topics.incidents.name: _rows(self.noted),
            topics.dead_letters.name: rejected + used_up,
        }

    def tables(self) -> dict[Table, Iterable[tuple[bytes, bytes | None]]]:
        """Rows by table of the local store."""
        return {
            "seen": self.changes.seen.items(),
            "suppressions": self.changes.suppressions.items(),
            "calls": (self.settled.rows | self.owed).items(),
            "incidents": self.noted.items(),
        }


def _rows(changed: Mapping[bytes, bytes | None]) -> list[Row]:
    return [(key, value, []) for key, value in changed.items()]
