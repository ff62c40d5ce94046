"""A log that loses records is noticed, and what the message says mends it; aborted transactions are no loss."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from console.local_kafka import LocalKafka, tool
from pipeline import contract, incidents, kafka
from pipeline.contract import EventType
from pipeline.settings import Settings
from tests.broken_log import cut
from tests.e2e.postlog import postlog
from tests.e2e.system import PATIENCE, Service, System, delivery, running, until
from tests.unit.records import event

#: All of it lies in one partition.
EMAIL = "ann@example.com"


@pytest.fixture
async def fragile(own_kafka: LocalKafka, tmp_path: Path) -> Settings:
    """A broker that may be stopped, with topics on it."""
    mine = Settings(kafka_bootstrap_servers=own_kafka.bootstrap, state_dir=str(tmp_path / "state"))
    await kafka.apply(mine)
    return mine


def bounces(first: int, count: int) -> list[bytes]:
    return [delivery(f"e{number}", "bounced.hard", EMAIL) for number in range(first, first + count)]


@contextmanager
def stopped(broker: LocalKafka) -> Iterator[Path]:
    """The folder of a broker's logs, for as long as it does not run."""
    broker.kill()
    yield broker.folder / "data"
    broker.start()


async def test_records_in_the_place_of_lost_ones_are_applied_once_the_loss_is_accepted(
    own_kafka: LocalKafka, fragile: Settings, tmp_path: Path
) -> None:
    async with running(fragile, tmp_path) as system:
        ingress, processor = system.start("ingress"), system.start("processor")
        await system.ready(ingress, processor)
        await system.deliver(ingress, bounces(0, 20), at_once=1)
        await system.caught_up()
        assert (ingress.stop(), processor.stop()) == (0, 0)
        number = (await system.records(system.topics.events))[0].partition
        with stopped(own_kafka) as data:
            assert cut(data, system.topics.events.name, number, 5) == 15
        ingress.restart()
        await system.ready(ingress)
        await system.deliver(ingress, bounces(100, 8), at_once=1)

        processor.restart()
        assert await asyncio.to_thread(processor.process.wait, PATIENCE) == 1
        assert "another record stands at offset 19" in processor.said()
        assert "postlog replay --after-loss" in processor.said()
        [record] = await system.records(system.topics.incidents)
        assert incidents.decode(record.value).subject == "records_lost"

        env = {"KAFKA_BOOTSTRAP_SERVERS": fragile.kafka_bootstrap_servers}
        await until(lambda: _moved(env), "the group is empty and moved")
        processor.restart()
        await system.ready(processor)
        await system.caught_up()
        markers = await system.markers()
        assert len(markers) == 20 + 8
        assert set(markers.values()) == {1}
        *_, over = await system.records(system.topics.incidents)
        assert over.value is None


async def _moved(env: dict[str, str], place: str = "--after-loss") -> bool:
    done = await asyncio.to_thread(postlog, "replay", place, "--yes", env=env)
    if done.returncode:
        assert "is in use" in done.stderr, done.stderr
    return done.returncode == 0


async def test_what_others_write_in_transactions_counts_once_it_is_committed_and_is_no_gap(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, bounces(0, 3), at_once=1)
    number = (await system.records(system.topics.events))[0].partition
    somebody = AIOKafkaProducer(
        **kafka.client_options(system.settings), transactional_id=f"{system.settings.topic_prefix}somebody"
    )
    async with somebody:
        for identity, commits in (("aborted", False), ("committed", True), ("aborted-too", False)):
            made = event(f"{identity}@example.com", EventType.HARD_BOUNCE, id=identity)
            await somebody.begin_transaction()
            await somebody.send_and_wait(
                system.topics.events.name, contract.encode(made), key=contract.key(made), partition=number
            )
            await (somebody.commit_transaction() if commits else somebody.abort_transaction())
        await system.caught_up()  # its end is a marker, which is nobody's record
        await somebody.begin_transaction()
        await somebody.send_and_wait(system.topics.events.name, b"value", key=b"key", partition=number)
        await until(lambda: _says(processor, "transaction on the events is open"), "it says what holds it up")
        await somebody.abort_transaction()
    await system.deliver(ingress, bounces(10, 2), at_once=1)
    await system.caught_up()
    assert processor.stop() == 0
    processor.restart()
    await system.ready(processor)
    await system.deliver(ingress, bounces(20, 1))
    await system.caught_up()
    assert await system.suppressed() == {EMAIL, "committed@example.com"}
    assert "stopped" not in processor.said()
    assert processor.said().count("lane open") == 24


async def _says(processor: Service, text: str) -> bool:
    return text in processor.said()


@pytest.mark.parametrize("place", ["--after-loss", "--from-beginning"])
async def test_a_group_that_is_gone_gets_offsets_again(system: System, place: str) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, bounces(0, 4))
    await system.caught_up()
    assert processor.stop() == 0
    group = kafka.group_of(system.settings, "processor")
    env = {"KAFKA_BOOTSTRAP_SERVERS": system.settings.kafka_bootstrap_servers}
    delete = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    done = tool(delete, "--bootstrap-server", *env.values(), "--delete", "--group", group)
    assert done.returncode == 0, done.stdout
    processor.restart()
    assert await asyncio.to_thread(processor.process.wait, PATIENCE) == 1
    assert "the group's offsets are gone" in processor.said()
    env |= {"TOPIC_PREFIX": system.settings.topic_prefix}
    await until(lambda: _moved(env, place), "the group is empty and moved")
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    assert set((await system.markers()).values()) == {1}
