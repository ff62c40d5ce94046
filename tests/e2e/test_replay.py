"""`postlog replay` on a real Kafka, with what real services made of it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from console.local_kafka import tool
from pipeline import contract, deadletter, kafka
from pipeline.providers import as_it_means_now
from pipeline.topics import Topic
from processor import marks
from tests.e2e.former import FORGOTTEN
from tests.e2e.postlog import argv, postlog, up, whole
from tests.e2e.system import SESSION_SECONDS, System, delivery, running, until
from tests.e2e.test_faults import RESET, load
from tests.e2e.test_handlers import Calls

Result = subprocess.CompletedProcess[str]


def environment(system: System) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": system.settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": system.settings.topic_prefix,
    }


async def replay(system: System, *args: str) -> Result:
    return await asyncio.to_thread(postlog, "replay", *args, env=environment(system))


async def replayed(system: System, *args: str) -> Any:
    """The report of a replay that must succeed."""
    result = await replay(system, *args, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def group(system: System) -> str:
    return kafka.group_of(system.settings, "processor")


async def offsets(system: System) -> dict[int, int]:
    """What the group has committed, by partition."""
    async with kafka.admin(system.settings) as client:
        found = await client.list_consumer_group_offsets(group(system))
    return {partition.partition: place.offset for partition, place in found.items()}


async def latest(system: System, topic: Topic) -> dict[bytes, bytes]:
    """The last value of every key."""
    return {record.key: record.value for record in await system.records(topic)}


async def letters(system: System) -> Counter[tuple[int, int]]:
    """How often each place of the events topic became a dead letter."""
    found = [deadletter.read(record).source for record in await system.records(system.topics.dead_letters)]
    return Counter((source.partition, source.offset) for source in found if source)


async def processed(system: System, bodies: list[bytes]) -> None:
    """Have these delivered and processed, and nobody in the group afterwards."""
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, bodies)
    await system.caught_up()
    assert processor.stop() == 0
    assert ingress.stop() == 0


async def process(system: System) -> None:
    """Start a processor, and stop it when everything is processed."""
    processor = system.start("processor")
    await system.ready(processor)
    await system.caught_up()
    assert processor.stop() == 0


async def test_a_replay_of_everything_leaves_every_value_and_every_marker_as_it_was(system: System) -> None:
    sent = load(3_000, seed=11)
    await processed(system, sent.bodies)
    listed = await latest(system, system.topics.suppressions)
    markers = await system.seen()
    dead = await letters(system)
    assert (len(markers), len(dead)) == (sent.ids, sent.nobody)

    report = await replayed(system, "--from-beginning", "--yes")
    assert (report["done"], report["again"], report["skipped"]) == (True, len(sent.bodies), 0)
    assert await system.lag() == len(sent.bodies)

    processor = system.start("processor")
    await system.ready(processor)
    await system.caught_up()
    applied = sum((await system.metric(processor, "postlog_processor_events_total")).values())
    duplicates = sum((await system.metric(processor, "postlog_processor_duplicates_total")).values())
    assert (applied, duplicates) == (sent.ids - sent.nobody, len(sent.bodies) - sent.ids)
    assert await latest(system, system.topics.suppressions) == listed
    assert await system.seen() == markers
    # What could not be processed still cannot: once more on the topic, of the same place in the log.
    assert await letters(system) == Counter(dict.fromkeys(dead, 2))


async def test_kafkas_own_tool_puts_the_group_at_the_same_offsets(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, load(300, seed=12).bodies)
    between: int = max(record.timestamp for record in await system.records(system.topics.events)) + 1

    async def later() -> bool:
        return time.time_ns() > between * 1_000_000

    await until(later, "the clock moved on")
    await system.deliver(ingress, load(300, seed=13).bodies)
    await system.caught_up()
    assert processor.stop() == 0
    before = await offsets(system)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between // 1000)) + f".{between % 1000:03d}"

    report = await replayed(system, "--from", f"{text}Z", "--yes")
    ours = await offsets(system)
    assert ours == {move["partition"]: move["new"] for move in report["partitions"]}
    assert 0 < report["again"] == sum(before.values()) - sum(ours.values()) < sum(before.values())
    # The ready line undoes it.
    assert (await replay(system, *report["back"].split()[2:], "--yes")).returncode == 0
    assert await offsets(system) == before
    await reset(system, system.topics.events.name, "--to-datetime", text)
    assert await offsets(system) == ours

    await replayed(system, "--from-offset", "3:5", "--yes")
    ours = await offsets(system)
    await reset(system, f"{system.topics.events.name}:3", "--to-offset", "7")
    assert await offsets(system) == ours | {3: 7}
    await reset(system, f"{system.topics.events.name}:3", "--to-offset", "5")
    assert await offsets(system) == ours


async def reset(system: System, topic: str, *to: str) -> None:
    where = ["--bootstrap-server", system.settings.kafka_bootstrap_servers, "--group", group(system)]
    done = await asyncio.to_thread(tool, RESET, *where, "--topic", topic, "--reset-offsets", *to, "--execute")
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stdout, done.stdout


async def test_while_a_processor_runs_it_is_refused_and_a_killed_one_can_be_waited_for(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    sent = load(100, seed=14)
    await system.deliver(ingress, sent.bodies)
    await system.caught_up()
    before = await offsets(system)
    refused = await replay(system, "--from-beginning", "--yes")
    assert refused.returncode == 1
    assert f"in use by 1 member ({group(system)}" in refused.stderr
    assert "127.0.0.1" in refused.stderr
    assert "--wait" in refused.stderr
    assert await offsets(system) == before
    assert (await replay(system, "--from-beginning", "--dry-run")).returncode == 0

    processor.kill()
    refused = await replay(system, "--from-beginning", "--yes")
    assert (refused.returncode, await offsets(system)) == (1, before)
    waited = await replay(system, "--from-beginning", "--yes", "--wait", str(SESSION_SECONDS * 3))
    assert waited.returncode == 0, waited.stderr
    assert "waiting" in waited.stderr
    assert await system.lag() == len(sent.bodies)


async def test_a_processor_that_froze_in_a_transaction_cannot_undo_the_replay(system: System) -> None:
    await processed(system, load(200, seed=15).bodies)
    partition = TopicPartition(system.topics.events.name, 0)
    frozen = AIOKafkaProducer(
        **kafka.client_options(system.settings), transactional_id=kafka.lane_id(group(system), 0)
    )
    await frozen.start()
    try:
        await frozen.begin_transaction()
        end = (await offsets(system))[0]
        await frozen.send_offsets_to_transaction({partition: OffsetAndMetadata(end, "")}, group(system))
        await replayed(system, "--from-beginning", "--yes")
        with pytest.raises(ProducerFenced):
            await frozen.commit_transaction()
    finally:
        await frozen.stop()
    assert set((await offsets(system)).values()) == {0}


async def test_nothing_moves_without_a_yes(system: System) -> None:
    await processed(system, load(100, seed=16).bodies)
    before = await offsets(system)
    silent = await replay(system, "--from-beginning")
    assert silent.returncode == 1
    assert "--yes" in silent.stderr
    looked = await replay(system, "--from-beginning", "--dry-run")
    assert (looked.returncode, "nothing was changed" in looked.stdout) == (0, True)
    assert "110 events are processed again" in looked.stdout
    assert await asyncio.to_thread(answer, system, b"n\n") == 1
    assert await offsets(system) == before
    assert await asyncio.to_thread(answer, system, b"y\n") == 0
    assert set((await offsets(system)).values()) == {0}


def answer(system: System, text: bytes) -> int:
    """Replay everything at a terminal on which somebody answers; the exit code."""
    master, slave = pty.openpty()
    try:
        os.write(master, text)
        line = argv("replay", "--from-beginning")
        env = whole(environment(system))
        return subprocess.run(line, env=env, stdin=slave, capture_output=True, timeout=60, check=False).returncode
    finally:
        os.close(master)
        os.close(slave)


async def test_it_works_beside_an_up_without_processors(system: System, tmp_path: Path) -> None:
    await processed(system, load(100, seed=21).bodies)

    def beside() -> Result:
        with up(tmp_path, "--processors", "0", **environment(system)) as without:
            assert not [name for name in without.pids() if name.startswith("processor")]
            return without.run("replay", "--from-beginning", "--yes")

    result = await asyncio.to_thread(beside)
    assert result.returncode == 0, result.stderr
    assert f"--data {tmp_path}" in result.stdout
    assert set((await offsets(system)).values()) == {0}


async def test_events_nobody_processed_are_skipped_only_if_it_is_said(system: System) -> None:
    await processed(system, load(100, seed=17).bodies)
    ingress = system.start("ingress")
    await system.ready(ingress)
    await system.deliver(ingress, load(200, seed=18).bodies)
    behind = await system.lag()
    assert behind == 220
    refused = await replay(system, "--from-offset", "0:1", "--from-offset", f"1:{await end_of(system, 1)}", "--yes")
    assert refused.returncode == 1
    assert "--skip-unprocessed" in refused.stderr
    assert await system.lag() == behind
    # A time after the last event: nothing to do, and nothing is skipped.
    nothing = await replay(system, "--from", "2100-01-01", "--yes")
    assert (nothing.returncode, "nothing to do" in nothing.stdout) == (0, True)
    assert await system.lag() == behind
    skipped = await replayed(system, "--from-offset", f"1:{await end_of(system, 1)}", "--skip-unprocessed", "--yes")
    assert await system.lag() == behind - skipped["skipped"] < behind


async def end_of(system: System, partition: int) -> int:
    return sum(record.partition == partition for record in await system.records(system.topics.events))


async def test_a_time_before_the_log_means_its_beginning_and_says_what_is_gone(system: System) -> None:
    await processed(system, load(200, seed=19).bodies)
    async with kafka.admin(system.settings) as client:
        await client.delete_records({TopicPartition(system.topics.events.name, 2): RecordsToDelete(before_offset=4)})
    result = await replay(system, "--from", "2020-01-01", "--yes")
    assert result.returncode == 0, result.stderr
    assert "4 older events are gone" in result.stdout
    assert await offsets(system) == {n: 4 if n == 2 else 0 for n in range(12)}


async def test_after_a_word_became_known_a_replay_ends_as_a_first_run_with_it_would_have(
    system: System, tmp_path: Path
) -> None:
    sent = load(1_000, seed=20).bodies
    former = [system.start(name, module=("tests.e2e.former", name)) for name in ("ingress", "processor")]
    await system.ready(*former)
    await system.deliver(former[0], sent)
    await system.caught_up()
    assert [service.stop() for service in former] == [0, 0]
    stored = {event["type"] for event in await system.events() if event["provider_type"] == FORGOTTEN}
    assert stored == {"unknown"}
    lacking = await latest(system, system.topics.suppressions)

    # A present processor alone does nothing about what was processed before it came; a replay does.
    await process(system)
    assert await latest(system, system.topics.suppressions) == lacking
    await replayed(system, "--from-beginning", "--yes")
    await process(system)
    mended = await latest(system, system.topics.suppressions)
    assert mended != lacking

    fresh = await first_run_of(system, tmp_path)
    assert fresh == mended


async def first_run_of(system: System, tmp_path: Path) -> dict[bytes, bytes]:
    """The list that a first run makes of the same events, with their types as the present ingress stores them."""
    settings = msgspec.structs.replace(system.settings, topic_prefix=f"{system.settings.topic_prefix}fresh.")
    await kafka.apply(settings)
    async with running(settings, tmp_path / "fresh") as fresh:
        async with AIOKafkaProducer(**kafka.client_options(settings)) as producer:
            for record in await system.records(system.topics.events):
                event = contract.decode(record.value)
                value = contract.encode(as_it_means_now(event))
                where = (record.key, record.partition)
                # Another log has other append times, and those count: so each copy says where it comes from.
                origin = f"{record.partition}:{record.offset}:{record.timestamp}".encode()
                headers = [*record.headers, (contract.HEADER_ORIGIN, origin)]
                await producer.send(fresh.topics.events.name, value, *where, headers=headers)
        await process(fresh)
        return await latest(fresh, fresh.topics.suppressions)


async def moment_after(system: System) -> str:
    """A time, as RFC 3339, that lies between what is on the log and what comes next."""
    last: int = max(record.timestamp for record in await system.records(system.topics.events))

    async def passed() -> bool:
        return time.time_ns() > (last + 2) * 1_000_000

    await until(passed, "the clock moved on")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((last + 1) // 1000)) + f".{(last + 1) % 1000:03d}Z"


async def test_a_bounded_replay_counts_a_new_word_inside_its_bounds_alone_also_after_a_kill(system: System) -> None:
    former = [system.start(name, module=("tests.e2e.former", name)) for name in ("ingress", "processor")]
    await system.ready(*former)
    times = []
    for part in range(3):
        bodies = [delivery(f"{part}-{n}", FORGOTTEN, f"{part}-{n}@x.io") for n in range(400)]
        await system.deliver(former[0], bodies)
        times.append(await moment_after(system))
    await system.caught_up()
    assert former[1].stop() == 0
    assert await system.suppressed() == set()

    report = await replayed(system, "--from", times[0], "--to", times[1], "--yes")
    assert (report["again"], report["passed"]) == (400, 400)
    # Events that were never processed are processed as always.
    await system.deliver(former[0], [delivery("3-0", FORGOTTEN, "3-0@x.io")])
    processor = system.start("processor", PROCESSOR_MAX_BATCH="5")

    async def begun() -> bool:
        return len(await system.suppressed()) > 0

    await until(begun, "it has begun")
    processor.kill()
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    assert await system.suppressed() == {f"1-{n}@x.io" for n in range(400)} | {"3-0@x.io"}
    async with kafka.admin(system.settings) as client:
        found = await client.list_consumer_group_offsets(group(system))
    assert [marks.read(place.metadata).bounds for place in found.values()] == [None] * len(found)


async def test_without_handlers_the_list_is_repaired_and_nobody_is_called_for_it(
    system: System, tmp_path: Path
) -> None:
    calls = Calls(system, tmp_path / "plugged")
    former = [system.start(name, module=("tests.e2e.former", name)) for name in ("ingress", "processor")]
    await system.ready(*former)
    await system.deliver(former[0], [delivery(f"e{n}", FORGOTTEN, f"p{n}@x.io") for n in range(100)])
    await system.caught_up()
    assert former[1].stop() == 0

    await replayed(system, "--from-beginning", "--without-handlers", "--yes")
    processor = calls.start()
    await system.ready(processor)
    await system.caught_up()
    assert len(await system.suppressed()) == 100
    await system.deliver(former[0], [delivery("new", "opened", "new@x.io")])
    await calls.until(lambda: calls.ids("done") == ["new"], "what is new is called for")
    assert calls.ids("begun") == ["new"]
    assert processor.stop() == 0

    await replayed(system, "--from-beginning", "--yes")
    processor.restart()
    await calls.until(lambda: len(calls.ids("done")) == 102, "everything is called for")


async def test_a_processor_refuses_an_offset_that_somebody_else_committed(system: System) -> None:
    await processed(system, load(50, seed=30).bodies)
    place = TopicPartition(system.topics.events.name, 0)
    consumer = AIOKafkaConsumer(
        **kafka.client_options(system.settings), group_id=group(system), enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([place])
        await consumer.commit({place: (0, "somebody else's")})
    finally:
        await consumer.stop()
    processor = system.start("processor")
    assert processor.process.wait(30) == 1
    assert "is not as postlog writes it" in processor.said()
    assert "postlog replay --after-loss" in processor.said()
    await replayed(system, "--after-loss", "--wait", "20", "--yes")
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
