"""Copies of lanes without Kafka: which stores are opened, and which are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition

from pipeline import topics
from pipeline.settings import Settings
from processor.place import Place
from processor.site import Site
from processor.standby import Standbys
from processor.store import open_store


class FakeConsumer:
    """A log in which every partition is empty."""

    def __init__(self) -> None:
        self.assigned: list[TopicPartition] = []

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self.assigned = list(partitions)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Settings(), topics.load(topics.default_file()), tmp_path, "group")


async def test_a_lane_that_becomes_ours_while_copies_are_opened_is_left_alone(site: Site) -> None:
    standbys, consumer = Standbys(site), FakeConsumer()
    standbys._wanted = {0, 1, 2}
    opening = asyncio.create_task(standbys._assign(_as_any(consumer)))
    await asyncio.sleep(0)  # it has opened the first one, and others have their turn
    standbys.release(1)
    await opening
    assert {tp.partition for tp in consumer.assigned} == {0, 2}
    # As the lane does; it would find its store locked.
    open_store(site.store_of(1)).close()
    await standbys.close()


async def test_a_copy_that_has_read_more_than_its_log_holds_is_kept_and_not_followed(site: Site) -> None:
    known = open_store(site.store_of(1))
    known.write({"suppressions": [(b"a@example.com", b"{}")]}, {site.topics.suppressions.name: Place(7)})
    known.close()
    standbys, consumer = Standbys(site), FakeConsumer()
    standbys._wanted = {0, 1}
    with structlog.testing.capture_logs() as logs:
        await standbys._assign(_as_any(consumer))
    assert [entry["partition"] for entry in logs if "is kept" in entry["event"]] == [1]
    await standbys._assign(_as_any(consumer))  # it is let go, and stays so
    assert {tp.partition for tp in consumer.assigned} == {0}
    known = open_store(site.store_of(1))
    assert known.suppressions([b"a@example.com"]) == [b"{}"]
    known.close()
    standbys.release(1)
    await standbys.close()


def _as_any(consumer: FakeConsumer) -> Any:
    return consumer
