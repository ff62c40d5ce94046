"""What candidates of the processor's benchmark read: topics and files with the same events, and what is right.

Kafka topics are filled once and read by every candidate in every round. postlog puts a prefix before its group and
its topics, the events topic among them: so that topic's name ends in a row of letters, and round n takes the name as
far as its n-th letter for its prefix. Each round is a postlog of its own that reads the same events.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from bench.fill import SPEAKING, Load, event, fill
from pipeline import contract, kafka
from pipeline import topics as rules
from pipeline.contract import Event
from pipeline.settings import Settings
from pipeline.topics import Topic
from tests.e2e.system import until

#: Letters at the end of an events topic's name, which bound how many postlogs may read it.
LETTERS = 24


@dataclass
class Right:
    """What must come of the events that were made: the ids that differ, and the addresses that are suppressed."""

    ids: set[str] = field(default_factory=set)
    suppressed: set[str] = field(default_factory=set)

    def make(self, load: Load, number: int) -> Event:
        """The number-th event, remembered."""
        made = event(load, number)
        self.ids.add(made.id)
        if made.type in SPEAKING and made.email:
            self.suppressed.add(made.email)
        return made

    @property
    def unique(self) -> int:
        """Events that are no duplicates."""
        return len(self.ids)


@dataclass
class Input:
    """The first events of the load, in a topic if `fill` was called.

    topic  the name of the topic
    """

    bootstrap: str
    load: Load
    topic: str
    right: Right = field(default_factory=Right)

    def lines(self) -> Iterator[bytes]:
        """The events as they are on the topic."""
        for number in range(self.load.events):
            yield contract.encode(self.right.make(self.load, number))

    def settings(self, number: int, folder: Path) -> Settings:
        """Settings of the number-th postlog that reads the topic; its topics.yaml is written to the folder.

        number  1 to LETTERS - 1
        """
        prefix = self.topic[: len(self.topic) - LETTERS + number]
        document = yaml.safe_load(rules.default_file().read_text())
        document["topics"]["events"]["name"] = self.topic.removeprefix(prefix)
        file = folder / "topics.yaml"
        file.write_text(yaml.safe_dump(document))
        return Settings(kafka_bootstrap_servers=self.bootstrap, topic_prefix=prefix, topics_file=str(file))

    async def fill(self, folder: Path) -> float:
        """Create the topic and write the events to it; events per second."""
        settings = self.settings(1, folder)
        topics = kafka.topics_of(settings)
        await create(settings, topics.events)
        return await fill(settings, topics, self.load, self.right.make)


class Inputs:
    """Topics by how many events they hold, each filled when it is asked for first."""

    def __init__(self, bootstrap: str, folder: Path, say: Callable[[str], None]) -> None:
        self._bootstrap = bootstrap
        self._say = say
        #: In every name, so that a Kafka may see several runs.
        self.run = f"bench{secrets.token_hex(3)}"
        self._folder = folder
        self._filled: dict[int, Input] = {}

    def new(self, events: int) -> Input:
        """An input that is nowhere yet."""
        return Input(self._bootstrap, Load(events), f"{self.run}-{events}-{'r' * LETTERS}")

    async def topic(self, events: int) -> Input:
        """The input whose topic holds that many events."""
        if events not in self._filled:
            made = self.new(events)
            speed = await made.fill(self._folder)
            self._say(f"filled a topic with {events:,} events, {speed:,.0f} a second")
            self._filled[events] = made
        return self._filled[events]


async def create(settings: Settings, topic: Topic) -> None:
    """Create a topic, and return once it has leaders."""
    async with kafka.admin(settings) as client:
        await client.create_topics(
            [NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=topic.settings())]
        )

        async def led() -> bool:
            (described,) = await client.describe_topics([topic.name])
            return not described["error_code"] and all(p["leader"] >= 0 for p in described["partitions"])

        await until(led, f"{topic.name} has leaders")


async def read(settings: Settings, topic: Topic) -> list[tuple[bytes, bool]]:
    """Key, and whether there is a value, of every committed record of a topic; within a partition in order."""
    consumer = AIOKafkaConsumer(
        **kafka.client_options(settings), isolation_level="read_committed", max_partition_fetch_bytes=4 * 1024 * 1024
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[tuple[bytes, bool]] = []
        while behind := [p for p in partitions if await consumer.position(p) < ends[p]]:
            for batch in (await consumer.getmany(*behind, timeout_ms=200)).values():
                found += [(record.key, record.value is not None) for record in batch]
        return found
    finally:
        await consumer.stop()
