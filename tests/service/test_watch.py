"""A processor that has nothing to do, and whether it may say that all is well; without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
)

from pipeline import topic_ids, topics
from pipeline.errors import ConfigError, KafkaRefused, LanesFailed, RecordsLost
from pipeline.settings import Settings
from processor import owners
from processor.site import Site, needed
from processor.watch import Watch

TOPICS = topics.load(topics.default_file())
IDS = {name: f"id-of-{name}" for name in needed(TOPICS)}
SITE = Site(
    Settings(processor_session_timeout_seconds=5, lane_stall_seconds=60),
    TOPICS,
    Path("unused"),
    "group",
    topic_ids=IDS,
)


class Kafka:
    """ids of the topics that are there; partitions without an owner, None while the group shares them out."""

    def __init__(self) -> None:
        self.ids = dict(IDS)
        self.ownerless: frozenset[int] | None = frozenset()
        self.error: KafkaError | None = None

    async def of(self, _: object, __: object) -> dict[str, str]:
        if self.error:
            raise self.error
        return dict(self.ids)

    async def missing(self, *_: object) -> frozenset[int] | None:
        return self.ownerless


class App:
    """A member of the group that was given nothing."""

    consumer_generation_id = 1
    rebalancing = False
    error: BaseException | None = None

    def stuck(self) -> BaseException | None:
        return self.error


class NoLanes:
    all: list[Any] = []  # noqa: RUF012


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    made = Kafka()
    monkeypatch.setattr(topic_ids, "of", made.of)
    monkeypatch.setattr(owners, "missing", made.missing)
    return made


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    lanes: Any = NoLanes()
    made = Watch(SITE, lanes, App())
    yield made
    await made._consumer.stop()


async def look(watch: Watch, *, joined: bool = True, waiting: int | None = None) -> None:
    client: Any = None
    await watch._surroundings.look(client, joined=joined, waiting=waiting)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was logged, wherever to."""
    streams = capsys.readouterr()
    return streams.out + streams.err


async def test_who_was_given_nothing_is_ready_once_the_group_says_that_others_have_everything(
    kafka: Kafka, watch: Watch
) -> None:
    kafka.ownerless = frozenset({1})
    await look(watch, joined=False)
    assert watch.ready().details["without_owner"] is None  # whoever comes first finds nobody in the group
    kafka.ownerless = None
    await look(watch)
    assert not watch.ready().ok
    kafka.ownerless = frozenset()
    await look(watch)
    assert watch.ready().ok
    assert watch.live().ok


async def test_partitions_without_an_owner_are_not_ready_at_once_and_not_live_after_the_limit(
    kafka: Kafka, watch: Watch
) -> None:
    await look(watch)
    kafka.ownerless = frozenset({3, 1})
    await look(watch)
    assert not watch.ready().ok
    assert watch.ready().details["without_owner"] == [1, 3]
    assert watch.live().ok
    kafka.ownerless = None  # shared out anew: not settled yet
    await look(watch)
    watch._surroundings.whole_at -= SITE.settings.lane_stall_seconds + 1
    assert not watch.live().ok
    kafka.ownerless = frozenset()
    await look(watch)
    assert watch.live().ok
    assert watch.ready().ok


@pytest.mark.parametrize("name", needed(TOPICS))
async def test_a_topic_that_is_gone_is_named_and_not_ready(
    kafka: Kafka, watch: Watch, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del kafka.ids[name]
    await look(watch)
    assert "a topic is gone" not in said(capsys)  # a broker that has just started may say so
    assert not watch.ready().ok
    assert watch.ready().details["missing_topics"] == [name]
    assert watch.live().ok
    await look(watch)
    await look(watch)
    assert said(capsys).count("a topic is gone") == 1
    watch._surroundings.whole_at -= SITE.settings.lane_stall_seconds + 1
    assert not watch.live().ok


async def test_events_that_are_another_topic_now_are_a_loss_with_its_size_and_its_cure(
    kafka: Kafka, watch: Watch
) -> None:
    await look(watch, waiting=17)
    await look(watch)  # its lanes were taken away before
    kafka.ids[TOPICS.events.name] = "another"
    with pytest.raises(
        RecordsLost, match=r"email-events: .*made anew.*, 17 at the last .*postlog replay --after-loss"
    ):
        await look(watch)


async def test_a_changelog_that_is_another_topic_is_compared_after_a_new_start(kafka: Kafka, watch: Watch) -> None:
    kafka.ids[TOPICS.suppressions.name] = "another"
    with pytest.raises(RecordsLost, match="email-suppressions was deleted and made anew: starting again"):
        await look(watch)


async def test_dead_letters_that_are_another_topic_now_stop_no_processor(kafka: Kafka, watch: Watch) -> None:
    kafka.ids[TOPICS.dead_letters.name] = "another"
    await look(watch)
    await look(watch)
    assert watch.ready().ok


async def test_what_cannot_be_seen_stays_as_it_was_and_what_may_not_be_seen_is_refused(
    kafka: Kafka, watch: Watch
) -> None:
    await look(watch)
    kafka.error = KafkaConnectionError()
    await look(watch)
    assert watch.ready().ok
    kafka.error = GroupAuthorizationFailedError("group")
    with pytest.raises(KafkaRefused, match="group"):
        await look(watch)


async def test_a_group_that_cannot_be_joined_for_good_is_not_waited_for(watch: Watch) -> None:
    watch._require_group()
    watch._app.error = InvalidSessionTimeoutError()
    with pytest.raises(
        ConfigError, match=r"PROCESSOR_SESSION_TIMEOUT_SECONDS is 5, .*group\.min\.session\.timeout\.ms"
    ):
        watch._require_group()
    watch._app.error = KafkaError("Unexpected exception in heartbeat task")
    with pytest.raises(LanesFailed, match="heartbeat"):
        watch._require_group()
