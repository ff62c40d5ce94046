"""What the alerter says of records on partitions that somebody added, without Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError

from alerter import channels, incidents, strangers
from alerter.grouping import Grouping, Policy
from alerter.incidents import Told
from alerter.strangers import Strangers
from alerter.watch import Watch
from pipeline import topics
from pipeline.incidents import Incident
from pipeline.settings import Settings
from pipeline.topics import Topic

TOPICS = topics.load(topics.default_file())
EVENTS, LETTERS = TOPICS.events, TOPICS.dead_letters


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many records are beyond, by topic; -1 where Kafka does not say."""
    found = {EVENTS.name: 0, LETTERS.name: 0}

    async def records_beyond(_: Any, topic: Topic) -> int:
        if found[topic.name] < 0:
            raise NodeNotReadyError("away")
        return found[topic.name]

    monkeypatch.setattr(strangers, "records_beyond", records_beyond)
    return found


def subjects(looked: Strangers) -> list[str] | None:
    return None if looked.incidents is None else [incident.subject for incident in looked.incidents]


async def test_what_is_there_is_an_incident_for_as_long_as_it_is_there(there: dict[str, int]) -> None:
    looked = Strangers((EVENTS, LETTERS))
    for count, wanted in [(0, []), (5, [EVENTS.name]), (-1, [EVENTS.name]), (0, [])]:
        there[EVENTS.name] = count
        assert await looked.look(None, 1000.0) == (count >= 0)
        assert subjects(looked) == wanted


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Watch]:
    """Makes an alerter's watch that was told nothing yet, at a time."""

    def made(now: float) -> Watch:
        to, grouping = channels.over([], 0.0), Grouping(Policy(1.0, 1.0))
        return Watch(Settings(), TOPICS, to, grouping, leads=lambda: True, clock=lambda: now)

    monkeypatch.setattr("alerter.watch.AIOKafkaProducer", lambda **_: None)
    return made


async def test_a_restart_says_nothing_of_it_until_kafka_has_answered(
    watch: Callable[[float], Watch], there: dict[str, int]
) -> None:
    known = Incident(kind="records_beyond", subject=EVENTS.name, since=1)
    record = incidents.encode(Told(incident=known, begun=1, over=False))
    now = time.time()
    for count, over in ((-1, None), (3, None), (0, True)):
        restarted = watch(now)
        restarted._board.remember(known.key, record)
        there[EVENTS.name] = count
        await restarted._strangers.look(None, now)
        restarted._look()
        news = restarted._board.due(now)
        assert [each.over for each in news] == ([] if over is None else [over])
