"""Clients on a real Kafka whose brokers are all somewhere else than they were."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from console import processes
from console.kafka_properties import HOST
from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline.settings import Settings

#: A client that does not ask its bootstrap servers would try for ever.
SECONDS = 60.0


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[LocalKafka, LocalKafka]]:
    """One broker's folder, to be started at either of two addresses."""
    before = LocalKafka(tmp_path / "kafka", port=processes.free_port())
    after = LocalKafka(tmp_path / "kafka", port=processes.free_port())
    with before:
        yield before, after
    after.stop()
    shutil.rmtree(before.folder / "data", ignore_errors=True)


async def test_clients_find_the_cluster_by_its_bootstrap_servers_once_no_broker_they_know_is_left(
    places: tuple[LocalKafka, LocalKafka],
) -> None:
    before, after = places
    settings = Settings(kafka_bootstrap_servers=f"{before.bootstrap},{after.bootstrap}")
    await kafka.apply(settings)
    topic = kafka.topics_of(settings).events.name
    options = kafka.client_options(settings, request_timeout_ms=2000)
    producer = AIOKafkaProducer(**options, enable_idempotence=True)
    consumer = AIOKafkaConsumer(topic, **options, group_id="moved", auto_offset_reset="earliest")
    try:
        async with asyncio.timeout(SECONDS):
            await producer.start()
            await consumer.start()
            await producer.send_and_wait(topic, b"before")
            assert (await consumer.getone()).value == b"before"

            before.kill()
            after.start()
            await producer.send_and_wait(topic, b"after")
            assert (await consumer.getone()).value == b"after"
        brokers = {(broker.host, broker.port) for broker in producer.client.cluster.brokers()}
        assert brokers == {(HOST, int(after.bootstrap.partition(":")[2]))}, "only the broker itself is known again"
    finally:
        await kafka.let_go(consumer, producer)
