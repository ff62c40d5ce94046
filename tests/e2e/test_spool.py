"""Kafka is away for a while, and no delivery has to be sent again."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil

from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline.settings import Settings
from tests.e2e.system import Service, System, delivery, running, until
from tests.e2e.test_faults import check, load

#: Addresses whose events come in order, and events of each.
ADDRESSES, EACH = 20, 60


async def posted(system: System, ingress: Service, body: bytes) -> bool:
    """Post until there is an answer, which has to be a 200."""
    try:
        status = await system.post(ingress, body)
    except (aiohttp.ClientError, OSError):
        return False  # the ingress is down
    assert status == 200
    return True


async def in_order(system: System, ingress: Service, address: str, name: str) -> None:
    """One event after the other, as a sender that keeps an order does."""
    for number in range(EACH):
        body = delivery(f"{name}-{address}-{number:03}", "opened", f"{address}@x.io")
        await until(lambda: posted(system, ingress, body), "it is answered 200")  # noqa: B023


async def logged(system: System) -> list[tuple[str, str]]:
    """(address, id) of every event's first occurrence, by partition, in order."""
    return list(dict.fromkeys((event["email"], event["id"]) for event in await system.events()))


async def spooled(system: System, ingress: Service) -> float:
    return (await system.metric(ingress, "postlog_ingress_spooled_records"))[""]


@asynccontextmanager
async def system_on(kafka_here: LocalKafka, folder: Path) -> AsyncIterator[System]:
    """A system without services on a broker of the test's own, which has its topics."""
    settings = Settings(kafka_bootstrap_servers=kafka_here.bootstrap)
    await kafka.apply(settings)
    async with running(settings, folder) as system:
        yield system


async def test_kafka_freezes_and_the_ingress_is_killed_and_every_answer_is_200(
    own_kafka: LocalKafka, tmp_path: Path
) -> None:
    async with system_on(own_kafka, tmp_path) as system:
        ingress = system.start("ingress", INGRESS_SPOOL_DIR=str(tmp_path / "spool"), INGRESS_DEADLINE_SECONDS="1")
        processor = system.start("processor")
        await system.ready(ingress, processor)
        names = [f"a{number}" for number in range(ADDRESSES)]
        sending = asyncio.gather(*[in_order(system, ingress, name, "x") for name in names])
        await until(lambda: _written(system, ingress, 100), "load is under way")
        own_kafka.process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: _spooled(system, ingress, 200), "deliveries are spooled")
            ingress.kill()
            ingress.restart()
            # It serves while Kafka is away: what was spooled before the kill is there, and more comes.
            await sending
            held = await spooled(system, ingress)
        finally:
            own_kafka.process.send_signal(signal.SIGCONT)
        assert held > 200
        await until(lambda: _spooled_none(system, ingress), "the spool is empty")
        await system.caught_up()
        found = await logged(system)
        wanted = {f"{name}@x.io": [f"x-{name}-{number:03}" for number in range(EACH)] for name in names}
        assert {email: [i for e, i in found if e == email] for email in wanted} == wanted
        markers = await system.markers()
        assert (len(markers), set(markers.values())) == (ADDRESSES * EACH, {1})
        # Afterwards nothing goes through the spool.
        before = await _accepted(system, ingress)
        await asyncio.gather(*[in_order(system, ingress, name, "y") for name in names[:3]])
        assert await spooled(system, ingress) == 0
        assert await _accepted(system, ingress) == before + 3 * EACH
        assert ingress.stop() == 0


async def test_a_broker_that_is_killed_for_some_seconds_costs_no_answer_and_no_event(
    own_kafka: LocalKafka, tmp_path: Path
) -> None:
    async with system_on(own_kafka, tmp_path) as system:
        ingress = system.start("ingress", INGRESS_SPOOL_DIR=str(tmp_path / "spool"), INGRESS_DEADLINE_SECONDS="1")
        processor = system.start("processor")
        await system.ready(ingress, processor)
        sent = load(3_000, seed=51)
        own_kafka.kill()
        statuses = Counter(await _all(system, ingress, sent.bodies))
        assert statuses == {200: len(sent.bodies)}
        assert ingress.stop() == 0
        assert "records stay in the spool" in ingress.said()
        own_kafka.start()
        ingress.restart()
        await system.ready(ingress)
        await until(lambda: _spooled_none(system, ingress), "the spool is empty")
        await until(lambda: _is_well(system, processor), "the processor is back")
        await check(system, sent)


async def test_a_full_spool_is_the_retry_answer_again(own_kafka: LocalKafka, tmp_path: Path) -> None:
    async with system_on(own_kafka, tmp_path) as system:
        ingress = system.start(
            "ingress",
            INGRESS_SPOOL_DIR=str(tmp_path / "spool"),
            INGRESS_SPOOL_MAX_BYTES="5000",
            INGRESS_DEADLINE_SECONDS="1",
        )
        await system.ready(ingress)
        own_kafka.kill()
        bodies = [delivery(f"e{number}", "opened", f"p{number}@x.io") for number in range(60)]
        statuses = [await system.post(ingress, body) for body in bodies]
        assert (statuses[0], statuses[-1]) == (200, 503)
        assert statuses == sorted(statuses)
        own_kafka.start()
        await until(lambda: _spooled_none(system, ingress), "the spool is empty")
        assert await system.post(ingress, bodies[-1]) == 200
        kept = {event["id"] for event in await system.events()}
        assert {f"e{number}" for number, status in enumerate(statuses) if status == 200} <= kept


async def test_a_spool_whose_disk_is_full_serves_after_a_kill_and_is_emptied(
    own_kafka: LocalKafka, tmp_path: Path
) -> None:
    async with system_on(own_kafka, tmp_path) as system:
        # The disk lives as long as the parent of the processes that are killed.
        ingress = system.start(
            "ingress",
            module=("tests.e2e.small_disk", "2", "INGRESS_SPOOL_DIR", "ingress"),
            INGRESS_SPOOL_DIR=str(tmp_path / "spool"),
            INGRESS_WORKERS="2",
            INGRESS_DEADLINE_SECONDS="0.5",
        )
        await system.ready(ingress)
        own_kafka.process.send_signal(signal.SIGSTOP)
        try:
            bodies = [delivery(f"e{n}", "opened", f"p{n}@example.com", note="x" * 20_000) for n in range(200)]
            statuses = await _all(system, ingress, bodies)
            assert set(statuses) == {200, 503}
            parent = psutil.Process(ingress.process.pid)
            for child in parent.children():
                child.kill()
            await until(lambda: _says_twice(ingress, "starting another"), "both are started again")
            await system.ready(ingress)
        finally:
            own_kafka.process.send_signal(signal.SIGCONT)
        await until(lambda: _spooled_none(system, ingress), "the spool is empty")
        assert await system.post(ingress, delivery("last", "opened", "p@example.com")) == 200
        kept = {event["id"] for event in await system.events()}
        assert {f"e{n}" for n, status in enumerate(statuses) if status == 200} <= kept
        assert ingress.stop() == 0


async def test_while_kafka_is_frozen_what_large_deliveries_take_is_bounded(
    own_kafka: LocalKafka, tmp_path: Path
) -> None:
    most = 16 * 1024 * 1024
    async with system_on(own_kafka, tmp_path) as system:
        ingress = system.start("ingress", INGRESS_MAX_PENDING_BYTES=str(most), INGRESS_DEADLINE_SECONDS="0.5")
        await system.ready(ingress)
        process = psutil.Process(ingress.process.pid)
        before = process.memory_info().rss
        own_kafka.process.send_signal(signal.SIGSTOP)
        try:
            body = delivery("large", "opened", "p@example.com", note="x" * 900_000)
            assert set(await _all(system, ingress, [body] * 200)) == {503}
            assert 0 < (await system.metric(ingress, "postlog_ingress_pending_bytes"))[""] <= most
            # Besides what is pending there are bodies on their way in, a megabyte for each of 32 senders.
            assert process.memory_info().rss - before < 120 * 1024 * 1024
        finally:
            own_kafka.process.send_signal(signal.SIGCONT)
        await system.deliver(ingress, [body])
        assert ingress.stop() == 0


async def _says_twice(service: Service, text: str) -> bool:
    return service.said().count(text) >= 2


async def _all(system: System, ingress: Service, bodies: list[bytes]) -> list[int]:
    room = asyncio.Semaphore(32)

    async def one(body: bytes) -> int:
        async with room:
            return await system.post(ingress, body)

    return await asyncio.gather(*[one(body) for body in bodies])


async def _written(system: System, ingress: Service, count: float) -> bool:
    return await _accepted(system, ingress) >= count


async def _accepted(system: System, ingress: Service) -> float:
    return sum((await system.metric(ingress, "postlog_ingress_events_total")).values())


async def _spooled(system: System, ingress: Service, count: float) -> bool:
    return await spooled(system, ingress) >= count


async def _spooled_none(system: System, ingress: Service) -> bool:
    return await spooled(system, ingress) == 0


async def _is_well(system: System, service: Service) -> bool:
    if service.process.poll() is not None:
        service.restart()
    return await system.status(f"{service.url}/health/ready") == 200
