"""What the alerter does when one of its topics is another one; without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from alerter import channels
from alerter.grouping import Grouping, Policy
from alerter.watch import LOOK_SECONDS, Watch
from pipeline import topic_ids, topics
from pipeline.errors import RecordsLost
from pipeline.settings import Settings

TOPICS = topics.load(topics.default_file())
READ = [TOPICS.incidents, TOPICS.alerts, TOPICS.dead_letters, TOPICS.letter_states]
PLACES = [TopicPartition(topic.name, number) for topic in READ for number in range(topic.partitions)]


class Consumer:
    """Notes what it is to read again."""

    _client = None

    def __init__(self) -> None:
        self.again: set[str] = set()

    async def seek_to_beginning(self, *places: TopicPartition) -> None:
        self.again |= {place.topic for place in places}


class Kafka:
    def __init__(self) -> None:
        self.ids = {topic.name: "first" for topic in READ}
        self.away = False

    async def of(self, _: object, names: Iterable[str]) -> dict[str, str]:
        if self.away:
            raise KafkaConnectionError
        return {name: self.ids[name] for name in names}


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    made = Kafka()
    monkeypatch.setattr(topic_ids, "of", made.of)
    return made


@pytest.fixture
def begun() -> list[bool]:
    """Whenever the dead letters were begun anew."""
    return []


@pytest.fixture
async def watch(begun: list[bool]) -> AsyncIterator[Watch]:
    looks: Iterator[float] = (number * LOOK_SECONDS for number in count(1))
    made = Watch(
        Settings(),
        TOPICS,
        channels.over([], 0.01),
        Grouping(Policy(1.0, 1.0)),
        leads=lambda: True,
        clock=lambda: next(looks),
        begin_again=lambda: begun.append(True),
    )
    yield made
    await made._producer.stop()


async def look(watch: Watch, consumer: Any) -> None:
    await watch._look_at_topics(consumer, PLACES)


async def test_dead_letters_that_were_made_anew_are_begun_anew_and_people_are_told(
    watch: Watch, kafka: Kafka, begun: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    consumer = Consumer()
    await look(watch, consumer)
    await look(watch, consumer)
    assert (consumer.again, begun) == (set(), [])
    kafka.ids[TOPICS.dead_letters.name] = "second"
    kafka.away = True
    await look(watch, consumer)
    kafka.away = False
    await look(watch, consumer)
    await look(watch, consumer)
    assert (consumer.again, begun) == ({TOPICS.dead_letters.name, TOPICS.letter_states.name}, [True])
    said = capsys.readouterr()
    assert (said.out + said.err).count("letters that nobody had dealt with are lost") == 1


@pytest.mark.parametrize("topic", [topic for topic in READ if topic is not TOPICS.dead_letters])
async def test_another_topic_that_was_made_anew_is_read_after_a_new_start(
    watch: Watch, kafka: Kafka, topic: topics.Topic
) -> None:
    consumer = Consumer()
    await look(watch, consumer)
    kafka.ids[topic.name] = "second"
    with pytest.raises(RecordsLost, match=f"{topic.name} was deleted and made anew: starting again"):
        await look(watch, consumer)
