"""What all lanes of a process share, and what belongs to a lane by its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import TopicPartition

from pipeline.settings import Settings
from pipeline.topics import Topics
from processor.handler import Handlers
from processor.store import TABLES, Table


def needed(topics: Topics) -> list[str]:
    """The topics that lanes read or write."""
    return [topics.events.name, *[getattr(topics, table).name for table in TABLES], topics.dead_letters.name]


@dataclass(frozen=True, slots=True)
class Site:
    """folder holds one store per lane; group owns the source offsets.

    tombstones  by topic, how long a compacted changelog keeps a deletion at least, ms
    topic_ids   by topic that lanes read or write, its id when the process began
    """

    settings: Settings
    topics: Topics
    folder: Path
    group: str
    handlers: Handlers = field(default_factory=dict)
    tombstones: Mapping[str, int] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def source_id(self) -> str:
        """Id of the events' topic; empty if nobody knows."""
        return self.topic_ids.get(self.topics.events.name, "")

    def store_of(self, number: int) -> Path:
        """The folder of a lane's store."""
        return self.folder / f"lane-{number}"

    def changelogs(self, number: int) -> dict[TopicPartition, Table]:
        """The partitions that a lane's tables are written to."""
        return {TopicPartition(getattr(self.topics, table).name, number): table for table in TABLES}
