"""`postlog replay --rebuild` on a real Kafka: the state is worked out anew and put in place of what was there."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from console.local_kafka import tool
from pipeline import kafka, suppression
from pipeline.suppression import Facts, Span, Suppression
from tests.e2e.postlog import argv, postlog, whole
from tests.e2e.system import SESSION_SECONDS, Service, System, delivery, until
from tests.e2e.test_faults import RESET, load
from tests.e2e.test_handlers import Calls
from tests.e2e.test_replay import environment, group, latest, letters, offsets, process, processed

State = tuple[dict[bytes, bytes], dict[bytes, bytes]]


async def rebuild(system: System, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    line = ["replay", "--rebuild", "--data", str(folder / "data"), *args]
    return await asyncio.to_thread(postlog, *line, env=environment(system))


async def rebuilt(system: System, folder: Path, *args: str) -> dict[str, int]:
    """The counts of a rebuild that must succeed."""
    result = await rebuild(system, folder, "--json", *args)
    assert result.returncode == 0, result.stderr
    assert left(folder) == []
    report = json.loads(result.stdout)
    assert report["done"] is (
        "--dry-run" not in args and bool(report["total"]["entries"] + report["total"]["markers"])
    )
    total: dict[str, int] = report["total"]
    return total


def left(folder: Path) -> list[Path]:
    """What commands left in their temporary folder."""
    return list(folder.glob("data/tmp/*"))


async def state(system: System) -> State:
    """The list and the markers, without what was deleted."""
    listed = await latest(system, system.topics.suppressions)
    seen = {key: marker for *_, key, marker in await system.seen()}
    return {k: v for k, v in listed.items() if v is not None}, {k: v for k, v in seen.items() if v is not None}


async def spoil(system: System) -> None:
    """Write into the state what no event ever said, and delete what events did."""
    listed, seen = system.topics.suppressions, system.topics.seen
    # An address may have several records: which are read first differs from run to run.
    records = list({record.key: record for record in await system.records(listed)}.values())
    markers = await system.seen()
    wrong = suppression.encode(Suppression.of("nobody@example.com", Facts(complaint=Span(1, 1))))
    async with AIOKafkaProducer(**kafka.client_options(system.settings)) as producer:
        for record in records[:20]:
            await producer.send_and_wait(listed.name, None, key=record.key, partition=record.partition)
        for record in records[20:30]:
            await producer.send_and_wait(listed.name, b"nonsense", key=record.key, partition=record.partition)
        for number in range(listed.partitions):
            key = f"nobody{number}@example.com".encode()
            await producer.send_and_wait(listed.name, wrong, key=key, partition=number)
        for partition, _, key, _ in markers[:15]:
            await producer.send_and_wait(seen.name, None, key=key, partition=partition)


async def restart(system: System, processor: Service) -> None:
    processor.restart()
    await system.ready(processor)


async def test_spoiled_state_becomes_what_the_log_tells_and_sound_state_stays(system: System, tmp_path: Path) -> None:
    sent = load(2_000, seed=41)
    await processed(system, sent.bodies)
    sound, before, dead = await state(system), await offsets(system), await letters(system)
    nothing = await rebuild(system, tmp_path)
    assert (nothing.returncode, "nothing to do" in nothing.stdout) == (0, True), nothing.stderr

    await spoil(system)
    spoiled = await state(system)
    assert spoiled != sound
    looked = await rebuilt(system, tmp_path, "--dry-run")
    assert await state(system) == spoiled
    asked = await rebuild(system, tmp_path)
    assert (asked.returncode, "--yes" in asked.stderr, await state(system)) == (1, True, spoiled)
    done = await rebuilt(system, tmp_path, "--yes")
    assert done == looked
    assert (done["markers"], done["unreadable"], done["released"]) == (15, 10, system.topics.suppressions.partitions)
    assert await state(system) == sound
    assert (await offsets(system), await letters(system)) == (before, dead)

    # A processor whose folder holds the former state takes the difference up, and duplicates stay duplicates.
    processor = next(service for service in system.services if service.name == "processor")
    ingress = next(service for service in system.services if service.name == "ingress")
    await restart(system, processor)
    await restart(system, ingress)
    await system.deliver(ingress, sent.bodies)
    await system.caught_up()
    assert await state(system) == sound
    assert processor.stop() == 0


async def test_processors_work_on_until_it_has_caught_up_and_a_lookup_follows(system: System, tmp_path: Path) -> None:
    ingress, processor, lookup = system.start("ingress"), system.start("processor"), system.start("lookup")
    await system.ready(ingress, processor, lookup)
    await system.deliver(ingress, load(1_000, seed=42).bodies)
    await system.caught_up()
    sound, _ = await state(system)
    refused = await rebuild(system, tmp_path, "--yes")
    assert refused.returncode == 1
    assert "--wait" in refused.stderr
    await spoil(system)
    wrong = f"{lookup.url}/suppressions/nobody3@example.com"

    async def shows(suppressed: bool) -> bool:
        async with system.http.get(wrong) as answer:
            verdict: bool = (await answer.json())["suppressed"]
            return verdict is suppressed

    await until(lambda: shows(True), "the lookup shows what is wrong")
    line = argv("replay", "--rebuild", "--yes", "--wait", "60", "--json", "--data", str(tmp_path / "data"))
    env = whole(environment(system))
    with started(line, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stdout is not None
        # Nothing is written before it has caught up and the processors are stopped.
        assert "caught up: stop all processors now" in await asyncio.to_thread(running.stderr.readline)
        await system.deliver(
            ingress, [delivery(f"late-{n}", "complained", f"late{n}@example.com") for n in range(50)]
        )
        await system.caught_up()
        assert await shows(True)
        assert processor.stop() == 0
        report = json.loads(await asyncio.to_thread(running.stdout.read))
    assert (running.returncode, report["done"]) == (0, True)
    listed, _ = await state(system)
    late = {f"late{n}@example.com".encode() for n in range(50)}
    assert {key: value for key, value in listed.items() if key not in late} == sound
    assert late <= listed.keys()
    await until(lambda: shows(False), "the lookup follows")


async def test_what_only_expired_events_tell_is_kept_unless_it_is_to_be_forgotten(
    system: System, tmp_path: Path
) -> None:
    await processed(system, load(1_000, seed=43).bodies)
    sound, _ = await state(system)
    places = [TopicPartition(system.topics.events.name, number) for number in range(system.topics.events.partitions)]
    ends = await offsets(system)
    async with kafka.admin(system.settings) as client:
        half = {place: RecordsToDelete(before_offset=ends[place.partition] // 2) for place in places}
        await client.delete_records(half)
    kept = await rebuilt(system, tmp_path, "--yes")
    assert (kept["released"], kept["suppressed"]) == (0, 0)
    listed, _ = await state(system)
    assert listed == sound
    gone = await rebuilt(system, tmp_path, "--yes", "--forget-expired")
    assert gone["released"] > 0
    listed, _ = await state(system)
    assert set(listed) < set(sound)


async def test_one_partition_of_two_and_a_kill_leave_whole_partitions(system: System, tmp_path: Path) -> None:
    await processed(system, load(1_000, seed=44).bodies)
    sound, _ = await state(system)
    await spoil(system)
    await rebuilt(system, tmp_path, "--yes", "--partition", "3", "--partition", "5")
    wrong = {key for key in (await state(system))[0] if key.startswith(b"nobody")}
    assert wrong == {f"nobody{n}@example.com".encode() for n in range(12)} - {
        b"nobody3@example.com",
        b"nobody5@example.com",
    }
    nowhere = await rebuild(system, tmp_path, "--partition", "12")
    assert (nowhere.returncode, "they are 0 to 11" in nowhere.stderr) == (1, True)
    spoiled = await state(system)

    # At its question it has fenced and compared everything, and written nothing.
    master, slave = pty.openpty()
    try:
        line, env = argv("replay", "--rebuild", "--data", str(tmp_path / "data")), whole(environment(system))
        with started(line, env, stdin=slave, stdout=slave, stderr=slave) as running:
            await asyncio.to_thread(_read_until, master, b"Write that?")
            running.kill()
        shutil.rmtree(tmp_path / "data" / "tmp")
        assert await state(system) == spoiled
        # A processor that was started meanwhile owns its lanes: nothing of theirs is written.
        with started(line, env, stdin=slave, stdout=slave, stderr=slave) as running:
            await asyncio.to_thread(_read_until, master, b"Write that?")
            processor = system.start("processor")
            await system.ready(processor)
            os.write(master, b"y\n")
            said = await asyncio.to_thread(_read_until, master, b"repeat the command")
            assert b"has another owner now" in said
        assert running.returncode == 1
        assert await state(system) == spoiled
        assert processor.stop() == 0
    finally:
        os.close(master)
        os.close(slave)
    await rebuilt(system, tmp_path, "--yes", "--wait", str(SESSION_SECONDS * 3))
    assert (await state(system))[0] == sound


@contextmanager
def started(line: list[str], env: dict[str, str], **streams: Any) -> Iterator[subprocess.Popen[Any]]:
    """A command that runs, and is ended with the context."""
    with subprocess.Popen(line, env=env, **streams) as running:
        try:
            yield running
        except BaseException:
            running.kill()
            raise


def _read_until(terminal: int, text: bytes, patience: float = 60.0) -> bytes:
    """What a terminal shows until it shows this."""
    said, deadline = b"", time.monotonic() + patience
    while text not in b" ".join(said.split()):
        assert time.monotonic() < deadline, said
        said += os.read(terminal, 4096)
    return b" ".join(said.split())


async def test_calls_that_are_owed_stay_owed_and_no_handler_is_called_again(system: System, tmp_path: Path) -> None:
    calls = Calls(system, tmp_path / "handler")
    ingress, processor = system.start("ingress"), calls.start(base=30)
    await system.ready(ingress, processor)
    await system.deliver(
        ingress, [delivery(f"evt-{who}", "complained", f"{who}@example.com") for who in ("good", "bad")]
    )
    await calls.until(lambda: len(calls.ids("begun")) == 2, "both were called for")
    await system.caught_up()
    assert processor.stop() == 0
    assert await calls.owed() == 1
    await spoil(system)
    await rebuilt(system, tmp_path, "--yes", "--wait", str(SESSION_SECONDS * 3))
    assert await calls.owed() == 1
    await process(system)
    assert len(calls.ids("begun", "good@example.com")) == 1


async def test_an_offset_that_kafka_forgot_and_a_wrong_release_wipe_nothing(system: System, tmp_path: Path) -> None:
    await processed(system, load(300, seed=45).bodies)
    sound = await state(system)
    bad = [b"{}"] * 300
    async with AIOKafkaProducer(**kafka.client_options(system.settings)) as producer:
        for value in bad:
            await producer.send_and_wait(system.topics.events.name, value, key=b"k", partition=0)
    processor = system.start("processor", PROCESSOR_MAX_REJECTED_SHARE="1")
    await system.ready(processor)
    await system.caught_up()
    assert processor.stop() == 0
    refused = await rebuild(system, tmp_path, "--yes")
    assert refused.returncode == 1
    assert "so nothing was changed" in refused.stderr
    where = ["--bootstrap-server", system.settings.kafka_bootstrap_servers, "--group", group(system)]
    done = await asyncio.to_thread(tool, RESET, *where, "--delete")
    assert "was successful" in done.stdout, done.stdout
    forgotten = await rebuild(system, tmp_path, "--yes")
    assert forgotten.returncode == 1
    assert "no committed offset" in forgotten.stderr
    assert await state(system) == sound


async def test_options_that_do_not_go_together_are_refused(system: System, tmp_path: Path) -> None:
    both = await rebuild(system, tmp_path, "--from", "2h")
    assert (both.returncode, "moves no offset" in both.stderr) == (2, True)
    alone = await asyncio.to_thread(
        postlog, "replay", "--from-beginning", "--partition", "3", env=environment(system)
    )
    assert (alone.returncode, "belong to --rebuild" in alone.stderr) == (2, True)
