"""Faust's consumer as the processor uses it, on a real Kafka, with lanes that only note what they are given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast

from aiokafka import AIOKafkaProducer

from pipeline import kafka
from pipeline.contract import Record
from pipeline.settings import Settings
from processor import app as processor
from processor.lanes import Lanes
from processor.site import Site
from tests.e2e.system import until

RECORDS = 100


class Noted:
    """In place of lanes: commits nothing.

    offsets  of the records that were delivered, in their order
    """

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def suspend(self) -> None: ...

    def assign(self, numbers: Collection[int], standbys: Collection[int] = ()) -> None: ...

    def has_room(self, number: int) -> bool:
        return number == 0

    async def until_room(self, timeout: float) -> None: ...

    def deliver(self, number: int, records: Sequence[Record]) -> None:
        self.offsets += [record.offset for record in records]

    async def has(self, wanted: list[int]) -> bool:
        return self.offsets == wanted


async def test_what_was_fetched_and_forgotten_is_fetched_again_though_nothing_is_committed(
    settings: Settings, tmp_path: Path
) -> None:
    topics = await kafka.require_topics(settings)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        for _ in range(RECORDS):
            await producer.send(topics.events.name, b"anything", partition=0)
    noted = Noted()
    site = Site(settings, topics, tmp_path, kafka.group_of(settings, "processor"))
    app = processor.build(site, cast(Lanes, noted))
    await app.start()
    try:
        await until(lambda: noted.has([*range(RECORDS)]), "all records came")
        # As after a rebalance that a fetch ran into.
        await app.consumer.perform_seek()
        await until(lambda: noted.has([*range(RECORDS)] * 2), "all records came again")
    finally:
        await app.stop()
