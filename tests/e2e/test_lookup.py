"""The real lookup process on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import stamina
from aiokafka import AIOKafkaProducer

from console import processes
from console.local_kafka import LocalKafka
from pipeline import kafka, suppression
from pipeline.settings import Settings
from pipeline.suppression import Facts, Span, Suppression

NEW_YEAR = 1_767_225_600_000
#: Seconds in which anything awaited here must happen; a start takes about one.
SOON = 30.0


class Lookup:
    """A lookup process; start it again after it ended and it has the same state and port."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._log = folder / "lookup.log"
        self._url = f"http://127.0.0.1:{(port := processes.free_port())}"
        self._env = {
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "TOPIC_PREFIX": settings.topic_prefix,
            "STATE_DIR": str(folder / "state"),
            "LOOKUP_PORT": str(port),
            "LOG_FORMAT": "json",
        }
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        await self.until(self.ready)

    def launch(self) -> subprocess.Popen[bytes]:
        self.process = processes.start([sys.executable, "-m", "lookup"], env=self._env, output=self._log)
        return self.process

    def stop(self) -> int:
        return processes.stop(self.process, SOON) if self.process else 0

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition; a process that ends meanwhile is an error, told with its log."""
        try:
            async with asyncio.timeout(SOON):
                while not await condition():
                    assert self.process is None or self.process.poll() is None, self._log.read_text()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"did not happen within {SOON:g} s. The log:\n{self._log.read_text()}")

    async def until_suppressed(self, email: str, suppressed: bool = True) -> None:
        async def condition() -> bool:
            return (await self.ask(email))["suppressed"] is suppressed

        await self.until(condition)

    async def until_lost(self) -> None:
        """Wait until it says that the topic lacks what it knew."""

        async def condition() -> bool:
            return "the topic lacks what this list knows" in self.told()

        await self.until(condition)

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}{path}") as response:
            return response.status, await response.text()

    async def ask(self, email: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads((await self.get(f"/suppressions/{email}"))[1])
        return answer | {"suppressed": answer.get("suppressed")}

    async def emails(self) -> set[str]:
        *rows, last = (json.loads(line) for line in (await self.get("/suppressions?limit=0"))[1].splitlines())
        assert last == {"next": None}
        return {row["email"] for row in rows}

    async def ready(self) -> bool:
        try:
            return (await self.get("/health/ready"))[0] == 200
        except aiohttp.ClientConnectionError:
            return False

    def told(self) -> list[str]:
        """The events in its log, of all starts."""
        return [str(json.loads(line)["event"]) for line in self._log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
async def lookup(settings: Settings, tmp_path: Path) -> AsyncIterator[Lookup]:
    """A lookup that is not started yet, on the topics of the settings."""
    lookup = Lookup(settings, tmp_path)
    yield lookup
    lookup.kill()


def suppressed(email: str) -> bytes:
    return suppression.encode(Suppression.of(email, Facts(hard_bounce=Span(NEW_YEAR, NEW_YEAR))))


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **kafka.client_options(settings), transactional_id=f"{settings.topic_prefix}test", acks="all"
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def write(settings: Settings, rows: Mapping[str, bytes | None], *, abort: bool = False) -> None:
    """One transaction on the suppressions topic."""
    topic = kafka.topics_of(settings).suppressions.name
    async with producing(settings) as producer:
        await producer.begin_transaction()
        sent = [await producer.send(topic, key=key.encode(), value=value) for key, value in rows.items()]
        await asyncio.gather(*sent)
        await (producer.abort_transaction() if abort else producer.commit_transaction())


async def suppress(settings: Settings, emails: Iterable[str]) -> None:
    await write(settings, {email: suppressed(email) for email in emails})


async def recreate(settings: Settings) -> None:
    """Delete the suppressions topic and make it anew."""
    topic = kafka.topics_of(settings).suppressions.name
    async with kafka.admin(settings) as client:
        await client.delete_topics([topic])
        async for attempt in stamina.retry_context(on=LookupError, timeout=SOON, attempts=None, wait_max=0.2):
            with attempt:
                if topic in await client.list_topics():
                    raise LookupError(topic)
    await kafka.apply(settings)


async def test_what_was_committed_is_answered_and_what_was_aborted_is_not(settings: Settings, lookup: Lookup) -> None:
    await suppress(settings, ["a@example.com"])
    await write(settings, {"b@example.com": suppressed("b@example.com")}, abort=True)
    await lookup.start()
    assert (await lookup.ask("a@example.com")) == {
        "email": "a@example.com",
        "suppressed": True,
        "causes": {"hard_bounce": {"first": "2026-01-01T00:00:00.000Z", "latest": "2026-01-01T00:00:00.000Z"}},
        "updated_at": "2026-01-01T00:00:00.000Z",
    }
    assert (await lookup.ask("b@example.com"))["suppressed"] is False
    await write(settings, {"a@example.com": None}, abort=True)
    await suppress(settings, ["c@example.com"])
    await lookup.until_suppressed("c@example.com")
    assert await lookup.emails() == {"a@example.com", "c@example.com"}
    await write(settings, {"a@example.com": None})
    await lookup.until_suppressed("a@example.com", False)
    assert lookup.stop() == 0


async def test_a_killed_lookup_goes_on_where_it_stood(settings: Settings, lookup: Lookup) -> None:
    emails = {f"user{number}@example.com" for number in range(3000)}
    await suppress(settings, emails)
    # Killed while it reads, at a moment of nobody's choosing, and again when it is done.
    lookup.launch()

    async def reads() -> bool:
        return "reading the list from the beginning" in lookup.told()

    await lookup.until(reads)
    lookup.kill()
    await lookup.start()
    assert await lookup.emails() == emails
    lookup.kill()
    await write(settings, {"user7@example.com": None, "late@example.com": suppressed("late@example.com")})
    await lookup.start()
    assert await lookup.emails() == emails - {"user7@example.com"} | {"late@example.com"}
    assert lookup.told().count("reading the list from the beginning") == 1
    assert lookup.told().count("continuing the local list") == 2


async def test_a_topic_made_anew_while_lookup_is_down_is_not_answered_from_until_it_is_whole(
    settings: Settings, lookup: Lookup
) -> None:
    await suppress(settings, ["old@example.com"])
    await lookup.start()
    assert await lookup.emails() == {"old@example.com"}
    lookup.kill()
    await recreate(settings)
    # As long as the old one in every partition, so that positions alone would not show it.
    await write(settings, {"old@example.com": None})
    lookup.launch()
    await lookup.until_lost()
    await suppress(settings, ["old@example.com"])
    await lookup.until(lookup.ready)
    assert await lookup.emails() == {"old@example.com"}
    assert lookup.told().count("reading the list from the beginning") == 2


async def test_a_topic_made_anew_under_a_running_lookup_is_not_answered_from_until_it_is_whole(
    settings: Settings, lookup: Lookup
) -> None:
    old = {f"old{number}@example.com" for number in range(50)}
    await suppress(settings, old)
    await lookup.start()
    await recreate(settings)
    await lookup.until_lost()
    assert (await lookup.get("/suppressions/old1@example.com"))[0] == 503
    await suppress(settings, old | {"new@example.com"})
    await lookup.until(lookup.ready)
    assert await lookup.emails() == old | {"new@example.com"}
    assert lookup.told().count("reading the list from the beginning") == 2
    assert lookup.stop() == 0


async def test_without_its_topics_lookup_refuses_to_start(settings: Settings, tmp_path: Path) -> None:
    elsewhere = msgspec.structs.replace(settings, topic_prefix=f"{settings.topic_prefix}none.")
    lookup = Lookup(elsewhere, tmp_path)
    assert await asyncio.to_thread(lookup.launch().wait, SOON) == 2
    assert "refused to start" in lookup.told()


async def test_a_lookup_that_is_asked_to_stop_while_it_waits_for_kafka_leaves_in_order(
    settings: Settings, tmp_path: Path
) -> None:
    nobody = msgspec.structs.replace(settings, kafka_bootstrap_servers=f"127.0.0.1:{processes.free_port()}")
    lookup = Lookup(nobody, tmp_path)
    lookup.launch()

    async def waits() -> bool:
        return "stamina.retry_scheduled" in lookup.told()

    try:
        await lookup.until(waits)
        assert lookup.stop() == 0
    finally:
        lookup.kill()


async def test_while_kafka_is_away_lookup_answers_and_then_goes_on(own_kafka: LocalKafka, tmp_path: Path) -> None:
    settings = Settings(kafka_bootstrap_servers=own_kafka.bootstrap)
    await kafka.apply(settings)
    await suppress(settings, ["a@example.com"])
    lookup = Lookup(settings, tmp_path)
    try:
        await lookup.start()
        own_kafka.kill()

        async def knows() -> bool:
            return "out of sight" in (await lookup.get("/health/ready"))[1]

        await lookup.until(knows)
        assert (await lookup.ask("a@example.com"))["suppressed"] is True
        assert await lookup.ready()
        own_kafka.start()
        await suppress(settings, ["b@example.com"])
        await lookup.until_suppressed("b@example.com")
        assert await lookup.emails() == {"a@example.com", "b@example.com"}
        assert lookup.told().count("reading the list from the beginning") == 1
        assert lookup.stop() == 0
    finally:
        lookup.kill()
