"""The alerter as a process, on a real Kafka, telling a real HTTP endpoint."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import stamina
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from console import processes
from console.local_kafka import LocalKafka
from pipeline import contract, deadletter, incidents, kafka
from pipeline.errors import NoRecipient
from pipeline.incidents import Incident
from pipeline.settings import Settings
from tests.broken_log import cut
from tests.e2e.postlog import postlog
from tests.e2e.system import running
from tests.receiver import SECONDS, receiver

HOUR = 3600.0


@dataclass
class Process:
    """A running alerter."""

    popen: subprocess.Popen[bytes]
    settings: Settings
    output: Path

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its own pages."""
        url = f"http://127.0.0.1:{self.settings.alerter_port}{path}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return response.status, await response.text()

    async def metric(self, name: str) -> float:
        _, text = await self.get("/metrics")
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found, f"no metric {name}"
        return float(found[1])

    async def ended(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.popen.wait), SECONDS)


@contextmanager
def alerter(settings: Settings, folder: Path, **changes: Any) -> Iterator[Process]:
    """An alerter with these settings and changes, ended with the context however that ends."""
    mine = msgspec.structs.replace(settings, alerter_port=processes.free_port(), **changes)
    given = {name.upper(): str(value) for name, value in msgspec.structs.asdict(mine).items() if value != ""}
    output = folder / "alerter.log"
    popen = processes.start([sys.executable, "-m", "alerter"], env=os.environ | given, output=output)
    try:
        yield Process(popen, mine, output)
    finally:
        popen.kill()
        popen.wait()
        print(output.read_text())  # noqa: T201  # pytest shows it where a test fails


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    options = kafka.client_options(settings) | {"transactional_id": f"{settings.topic_prefix}test"}
    producer = AIOKafkaProducer(**options, max_request_size=kafka.LARGEST_REQUEST)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@cache
def dead_letters(settings: Settings) -> str:
    """The name of the topic; ten thousand letters are not worth reading the file as often."""
    return kafka.topics_of(settings).dead_letters.name


async def send(
    producer: AIOKafkaProducer, settings: Settings, event_type: str, value: bytes = b"{}"
) -> TopicPartition:
    """Write a dead letter as the processor does; the partition it went to."""
    source = deadletter.Source("email-events", 3, 1234, 0, "processor")
    added = deadletter.headers(NoRecipient("data.email: missing"), stage="processor", now=0, source=source)
    added += [(contract.HEADER_TYPE, event_type.encode()), (contract.HEADER_PROVIDER, b"nexuspromail")]
    topic = dead_letters(settings)
    metadata = await producer.send_and_wait(topic, value, key=b"jane.doe@example.com", headers=added)
    return TopicPartition(topic, metadata.partition)


async def dead_letter(settings: Settings, event_type: str, value: bytes = b"{}") -> TopicPartition:
    async with producing(settings) as producer, producer.transaction():
        return await send(producer, settings, event_type, value)


async def committed(settings: Settings, tp: TopicPartition) -> int:
    """The offset the alerter's group committed, 0 if none."""
    async with kafka.admin(settings) as client:
        offsets = await client.list_consumer_group_offsets(kafka.group_of(settings, "alerter"))
    return max(0, offsets[tp].offset) if tp in offsets else 0


def until() -> Any:
    """Try again until the assertions hold."""
    return stamina.retry_context(
        on=(AssertionError, aiohttp.ClientError), timeout=SECONDS, attempts=None, wait_max=0.2, wait_jitter=0
    )


async def test_a_critical_dead_letter_is_told_at_once_and_committed_after_that(
    settings: Settings, tmp_path: Path
) -> None:
    async with receiver() as people:
        people.answer.clear()
        with alerter(settings, tmp_path, alert_urls=f"{people.url}?rto={SECONDS}") as process:
            tp = await dead_letter(settings, "hard_bounce")
            await asyncio.wait_for(people.came.get(), SECONDS)
            async for attempt in until():
                with attempt:
                    assert await process.metric("postlog_alerter_unsent_alerts") == 1
            assert await committed(settings, tp) == 0

            people.answer.set()
            told = await people.notification()
            assert told["title"] == "postlog: 1 dead letter, hard_bounce, nexuspromail: NoRecipient"
            assert f"its dead letter: {tp.topic}, partition {tp.partition}, offset 0" in told["message"]
            assert "its record: email-events, partition 3, offset 1234" in told["message"]
            assert "jane" not in told["message"]
            async for attempt in until():
                with attempt:
                    # The letter and the marker that ends its transaction: nothing is left that looks like lag.
                    assert await committed(settings, tp) == 2

            assert (await process.get("/health/live"))[0] == (await process.get("/health/ready"))[0] == 200
            assert await process.metric("postlog_alerter_heartbeat_timestamp_seconds") > 0
            assert await process.metric("postlog_alerter_lag") == 0
            process.popen.send_signal(signal.SIGTERM)
            assert await process.ended() == 0


async def test_a_dead_letter_of_an_aborted_transaction_is_not_told(settings: Settings, tmp_path: Path) -> None:
    async with receiver() as people, producing(settings) as producer:
        with alerter(settings, tmp_path, alert_urls=people.url):
            await producer.begin_transaction()
            await send(producer, settings, "complaint")
            await producer.abort_transaction()
            async with producer.transaction():
                await send(producer, settings, "hard_bounce")
            assert "hard_bounce" in (await people.notification())["title"]
            assert people.took.empty()


async def test_a_letter_that_was_waiting_for_its_digest_is_told_after_a_kill(
    settings: Settings, tmp_path: Path
) -> None:
    async with receiver() as people:
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=HOUR) as process:
            # As large as a dead letter may be.
            tp = await dead_letter(settings, "opened", b"x" * (kafka.LARGEST_REQUEST - 2048))
            async for attempt in until():
                with attempt:
                    assert await process.metric("postlog_alerter_untold_letters") == 1
            process.popen.kill()
        assert people.came.empty()
        assert await committed(settings, tp) == 0
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=0.1):
            assert (await people.notification())["title"].startswith("postlog: 1 dead letter, opened")
            async for attempt in until():
                with attempt:
                    assert await committed(settings, tp) == 2


async def test_it_refuses_to_start_on_a_url_that_cannot_work_and_without_topics(
    settings: Settings, tmp_path: Path
) -> None:
    with alerter(settings, tmp_path, alert_urls="json://127.0.0.1:1/a nosuch://secret") as process:
        assert await process.ended() == 2
        assert "entry 2 (nosuch://…)" in process.output.read_text()
    with alerter(settings, tmp_path, topic_prefix=f"{settings.topic_prefix}none.") as process:
        assert await process.ended() == 2
        assert "postlog topics apply" in process.output.read_text()


async def test_it_can_be_stopped_while_it_waits_for_kafka(tmp_path: Path) -> None:
    away = Settings(kafka_bootstrap_servers=f"127.0.0.1:{processes.free_port()}")
    with alerter(away, tmp_path) as process:
        async for attempt in until():
            with attempt:
                assert "retry" in process.output.read_text()  # it asked Kafka, so it listens for signals by now
        process.popen.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_people_are_told_while_kafka_is_away_and_it_is_committed_when_it_is_back(
    own_kafka: LocalKafka, tmp_path: Path
) -> None:
    settings = Settings(kafka_bootstrap_servers=own_kafka.bootstrap)
    await kafka.apply(settings)
    async with receiver() as people:
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=2.0) as process:
            tp = await dead_letter(settings, "opened")
            async for attempt in until():
                with attempt:
                    assert await process.metric("postlog_alerter_untold_letters") == 1
            own_kafka.kill()
            assert "opened" in (await people.notification())["title"]
            assert (await process.get("/health/live"))[0] == 200
            own_kafka.start()
            async for attempt in until():
                with attempt:
                    assert await committed(settings, tp) == 2
            assert people.took.empty()
            own_kafka.kill()
            process.popen.send_signal(signal.SIGTERM)
            assert await process.ended() == 0


async def test_it_can_be_stopped_while_kafka_is_frozen(own_kafka: LocalKafka, tmp_path: Path) -> None:
    settings = Settings(kafka_bootstrap_servers=own_kafka.bootstrap)
    await kafka.apply(settings)
    with alerter(settings, tmp_path, alert_digest_seconds=HOUR) as process:
        await dead_letter(settings, "opened")
        async for attempt in until():
            with attempt:
                assert await process.metric("postlog_alerter_untold_letters") == 1
        own_kafka.process.send_signal(signal.SIGSTOP)
        try:
            process.popen.send_signal(signal.SIGTERM)
            assert await process.ended() == 0
        finally:
            own_kafka.process.send_signal(signal.SIGCONT)


async def test_letters_in_the_place_of_lost_ones_are_told_though_the_log_is_as_long_as_before(
    own_kafka: LocalKafka, tmp_path: Path
) -> None:
    settings = Settings(kafka_bootstrap_servers=own_kafka.bootstrap)
    await kafka.apply(settings)

    async def letters(count: int) -> TopicPartition:
        async with AIOKafkaProducer(**kafka.client_options(settings)) as producer:
            return [await send(producer, settings, "hard_bounce") for _ in range(count)][-1]

    tp = await letters(5)
    async with receiver() as people:
        with alerter(settings, tmp_path, alert_urls=people.url, alert_despam_seconds=0.1) as process:
            assert (await people.notification())["title"].startswith("postlog: 5 dead letters, hard_bounce")
            async for attempt in until():
                with attempt:
                    assert await committed(settings, tp) == 5
            process.popen.send_signal(signal.SIGTERM)
            assert await process.ended() == 0
        own_kafka.kill()
        assert cut(own_kafka.folder / "data", tp.topic, tp.partition, 3) == 2
        own_kafka.start()
        await letters(3)
        with alerter(settings, tmp_path, alert_urls=people.url, alert_despam_seconds=0.1) as process:
            assert (await people.notification())["title"].startswith("postlog: 5 dead letters, hard_bounce")
            assert "has lost its end" in process.output.read_text()


async def incident(settings: Settings, value: Incident, partitions: Iterable[int], *, over: bool = False) -> None:
    """Write an incident's rows, or their tombstones, as the lanes do."""
    topic = kafka.topics_of(settings).incidents.name
    async with producing(settings) as producer, producer.transaction():
        for partition in partitions:
            row = None if over else incidents.encode(value)
            await producer.send_and_wait(topic, row, key=value.key, partition=partition)


async def test_an_incident_in_many_lanes_is_told_once_and_so_is_its_end_also_after_a_kill(
    settings: Settings, tmp_path: Path
) -> None:
    down = Incident(kind="circuit_open", subject="crm", since=1_000, reason="OSError: away")
    stopped = Incident(kind="processor_stopped", subject="rejections", since=1_000, reason="100 of 100 records")
    told = kafka.topics_of(settings).alerts
    async with receiver() as people, running(settings, tmp_path) as system:
        with alerter(settings, tmp_path, alert_urls=people.url) as process:
            await incident(settings, down, range(12))
            assert (await people.notification())["title"] == "postlog: handler crm is down"
            async for attempt in until():
                with attempt:
                    assert len(await system.records(told)) == 1
            process.popen.kill()
        await incident(settings, down, range(11), over=True)
        with alerter(settings, tmp_path, alert_urls=people.url) as process:
            # What comes next is news: the first one is not repeated.
            async for attempt in until():
                with attempt:
                    assert await process.metric("postlog_alerter_incidents") == 1
            await incident(settings, stopped, [4])
            assert (await people.notification())["title"] == "postlog: a processor stopped itself (rejections)"
            async for attempt in until():
                with attempt:
                    assert len(await system.records(told)) == 2
            process.popen.kill()
        await incident(settings, down, [11], over=True)
        with alerter(settings, tmp_path, alert_urls=people.url):
            assert (await people.notification())["title"] == "postlog: handler crm answers again"
            await incident(settings, stopped, [4], over=True)
            assert (await people.notification())["title"] == "postlog: processors work again (rejections)"
        assert people.took.empty()


async def test_a_letter_that_nobody_deals_with_is_told_once_and_that_somebody_did(
    settings: Settings, tmp_path: Path
) -> None:
    changes = {"alert_open_seconds": 0.5, "alert_digest_seconds": HOUR}
    environment = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "TOPIC_PREFIX": settings.topic_prefix}
    told = kafka.topics_of(settings).alerts
    async with receiver() as people, running(settings, tmp_path) as system:
        await dead_letter(settings, "opened")
        with alerter(settings, tmp_path, alert_urls=people.url, **changes) as process:
            assert (await people.notification())["title"] == "postlog: dead letters wait for too long"
            line = ("dlq", "discard", "--all", "--yes", "--because", "known")
            done = await asyncio.to_thread(postlog, *line, env=environment)
            assert done.returncode == 0, done.stderr
            assert (await people.notification())["title"] == "postlog: no dead letter waits for too long any more"
            async for attempt in until():
                with attempt:
                    assert len(await system.records(told)) == 2
            process.popen.kill()
        with alerter(settings, tmp_path, alert_urls=people.url, **changes):
            await dead_letter(settings, "hard_bounce")
            assert "1 dead letter, hard_bounce" in (await people.notification())["title"]
        assert people.took.empty()


async def test_a_group_whose_last_letter_was_dealt_with_is_told_to_be_over_once_also_after_a_kill(
    settings: Settings, tmp_path: Path
) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "TOPIC_PREFIX": settings.topic_prefix}
    told = kafka.topics_of(settings).alerts
    async with receiver() as people, running(settings, tmp_path) as system:
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=1) as process:
            await dead_letter(settings, "complaint")
            assert "1 dead letter, complaint" in (await people.notification())["title"]
            async for attempt in until():
                with attempt:
                    assert len(await system.records(told)) == 1
            process.popen.kill()
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=1) as process:
            line = ("dlq", "discard", "--all", "--yes", "--because", "known")
            done = await asyncio.to_thread(postlog, *line, env=environment)
            assert done.returncode == 0, done.stderr
            title = "postlog: no dead letter is open any more, complaint, nexuspromail: NoRecipient"
            assert (await people.notification())["title"] == title
            async for attempt in until():
                with attempt:
                    assert len(await system.records(told)) == 2
            process.popen.kill()
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=1):
            await dead_letter(settings, "hard_bounce")
            assert "hard_bounce" in (await people.notification())["title"]
        assert people.took.empty()


async def test_ten_thousand_letters_of_a_group_make_two_messages_at_most(settings: Settings, tmp_path: Path) -> None:
    async with receiver() as people:
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=1) as process:
            async with producing(settings) as producer:
                for _ in range(10):
                    async with producer.transaction():
                        await asyncio.gather(*[send(producer, settings, "complaint") for _ in range(1_000)])
            async for attempt in until():
                with attempt:
                    labels = '{provider="nexuspromail",stage="processor",type="complaint"}'
                    assert await process.metric(f"postlog_alerter_letters_total{re.escape(labels)}") == 10_000
                    assert await process.metric("postlog_alerter_incidents") == 1
                    assert await process.metric("postlog_alerter_unsent_alerts") == 0
            titles = {(await people.notification())["title"] for _ in range(2)}
            assert "postlog: a flood of dead letters" in titles
            assert len([title for title in titles if "complaint" in title]) == 1
        assert people.took.empty()


async def test_a_killed_alerter_repeats_no_letter_that_was_told_behind_one_that_was_not(
    settings: Settings, tmp_path: Path
) -> None:
    told = kafka.topics_of(settings).alerts
    async with receiver() as people, running(settings, tmp_path) as system:
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=HOUR) as process:
            async with producing(settings) as producer, producer.transaction():
                # One key, so one partition: the first waits for its digest and holds the commit back.
                for kind in ("opened", "hard_bounce"):
                    await send(producer, settings, kind)
            assert "hard_bounce" in (await people.notification())["title"]
            async for attempt in until():
                with attempt:
                    assert len(await system.records(told)) == 1
            process.popen.kill()
        with alerter(settings, tmp_path, alert_urls=people.url, alert_digest_seconds=1):
            # It read both again.
            opened = "postlog: 1 dead letter, opened, nexuspromail: NoRecipient"
            assert (await people.notification())["title"] == opened
            await dead_letter(settings, "complaint")
            assert "complaint" in (await people.notification())["title"]
        assert people.took.empty()


async def test_one_hung_channel_makes_no_other_repeat_its_alert_at_a_restart_and_is_told_then(
    settings: Settings, tmp_path: Path
) -> None:
    down = Incident(kind="circuit_open", subject="crm", since=1_000, reason="OSError: away")
    async with receiver() as good, receiver() as hung:
        hung.answer.clear()
        urls = f"{hung.url}?rto={SECONDS} {good.url}"
        with alerter(settings, tmp_path, alert_urls=urls) as process:
            await dead_letter(settings, "hard_bounce")
            await incident(settings, down, [0])
            titles = {(await good.notification())["title"] for _ in range(2)}
            assert len(titles) == 2
            await noted(settings, 2)
            process.popen.kill()
        hung.answer.set()
        with alerter(settings, tmp_path, alert_urls=f"{good.url} {urls.split()[0]}"):
            told: set[str] = set()
            while not told >= titles:
                told |= set((await hung.notification())["title"].replace("; ", "; postlog: ").split("; "))
            await dead_letter(settings, "complaint")
            assert "complaint" in (await good.notification())["title"]


async def noted(settings: Settings, count: int) -> None:
    """Until so many records of what was told are there."""
    topic = kafka.topics_of(settings).alerts
    places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(**kafka.client_options(settings))
    await consumer.start()
    try:
        async for attempt in until():
            with attempt:
                assert sum((await consumer.end_offsets(places)).values()) >= count
    finally:
        await consumer.stop()
