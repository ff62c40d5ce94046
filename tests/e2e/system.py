"""Drives real services as black boxes, through HTTP, signals and topics, and reads what they left."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from console import processes
from pipeline import kafka, suppression
from pipeline.settings import Settings
from pipeline.topics import Topic
from processor import dedup
from tests.e2e import access

SECRET = "e2e-secret-0123456789"
#: Kafka accepts no shorter session by default (group.min.session.timeout.ms).
SESSION_SECONDS = 6
#: Nothing here takes this long; what does is stuck.
PATIENCE = 60.0

Json = dict[str, Any]


def delivery(identity: str | None, kind: str, email: object, **more: object) -> bytes:
    """A NexusProMail body."""
    return json.dumps({"id": identity, "type": kind, "data": {"email": email}, **more}).encode()


def signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def until(condition: Callable[[], Coroutine[Any, Any, Any]], what: str, patience: float = PATIENCE) -> Any:
    """The condition's first truthy answer. Fails, saying what was awaited, when patience ends."""
    deadline = time.monotonic() + patience
    while not (answer := await condition()):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain until {what}"
        await asyncio.sleep(0.1)
    return answer


class Service:
    """One process of ours; `url` serves its health and metrics."""

    def __init__(self, name: str, env: dict[str, str], port: int, folder: Path, module: tuple[str, ...]) -> None:
        self.name = name
        self._module = module
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{name}-{port}.log"
        self.state = Path(env["STATE_DIR"])
        self._env = env
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        # apprise imports a module that Python gives up; the last option counts.
        warnings = ["-W", "error", "-W", "ignore:'imghdr' is deprecated:DeprecationWarning"]
        argv = [sys.executable, *warnings, "-m", *self._module]
        return processes.start(argv, env=self._env, output=self.log)

    def restart(self) -> None:
        """Start it again, with the same state and port, once it is down."""
        self.process.wait(PATIENCE)
        self.process = self._start()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return processes.stop(self.process, PATIENCE)

    def said(self) -> str:
        return self.log.read_text()


class System:
    """The services of one test on one broker, with topics of their own."""

    def __init__(self, settings: Settings, folder: Path, http: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.topics = kafka.topics_of(settings)
        self.http = http
        self.services: list[Service] = []
        self._folder = folder

    # --- services

    def start(self, name: str, *, module: tuple[str, ...] = (), **env: str) -> Service:
        """Start a service on a free port with a state folder of its own.

        module  what to run, with its arguments, if it is not the package of that name
        """
        port = processes.free_port()
        number = len(self.services)
        scratch = self._folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        whole = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(scratch),
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "TOPIC_PREFIX": self.settings.topic_prefix,
            "STATE_DIR": str(self._folder / f"{name}-{number}"),
            "WEBHOOK_SECRET": SECRET,
            "PROCESSOR_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
            f"{name.upper()}_PORT": str(port),
            **env,
        }
        service = Service(name, access.of(name, whole), port, self._folder, module or (name,))
        self.services.append(service)
        return service

    async def ready(self, *services: Service, patience: float = PATIENCE) -> None:
        """Wait until these say that they are ready."""
        for service in services:
            await until(lambda s=service: self._is_ready(s), f"{service.name} is ready", patience)  # type: ignore[misc]

    async def _is_ready(self, service: Service) -> bool:
        code = service.process.poll()
        assert code is None, f"{service.name} ended with {code}:\n{service.said()[-3000:]}"
        return await self.status(f"{service.url}/health/ready") == 200

    async def status(self, url: str) -> int | None:
        """The status code of a GET, None if nobody answers."""
        try:
            async with self.http.get(url) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError):
            return None

    async def metric(self, service: Service, name: str) -> dict[str, float]:
        """A metric's values by their labels' text."""
        async with self.http.get(f"{service.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = [line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return {labels.removeprefix(name): float(value) for labels, value in found}

    # --- a sender

    async def post(self, ingress: Service, body: bytes, *, sign: str | None = None) -> int:
        """Post a delivery once; the status code."""
        headers = {"X-NexusProMail-Signature": signature(body) if sign is None else sign}
        # As a file: aiohttp warns of a large body given as bytes.
        async with self.http.post(f"{ingress.url}/webhooks/email", data=BytesIO(body), headers=headers) as answer:
            await answer.read()
            return answer.status

    async def deliver(self, ingress: Service, bodies: Iterable[bytes], *, at_once: int = 32) -> None:
        """Post deliveries as a provider does: each again and again until it is answered 200."""
        todo = list(reversed(list(bodies)))

        async def sender() -> None:
            while todo:
                body = todo.pop()
                await until(lambda: self._accepted(ingress, body), "a delivery is accepted")  # noqa: B023

        await asyncio.gather(*[sender() for _ in range(at_once)])

    async def _accepted(self, ingress: Service, body: bytes) -> bool:
        try:
            return await self.post(ingress, body) == 200
        except (aiohttp.ClientError, OSError):
            return False

    # --- what is in Kafka

    async def records(self, topic: Topic) -> list[Any]:
        """Every committed record of a topic, partition by partition, in order."""
        consumer = AIOKafkaConsumer(**kafka.client_options(self.settings), isolation_level="read_committed")
        await consumer.start()
        try:
            partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            found = []
            while behind := [p for p in partitions if await consumer.position(p) < ends[p]]:
                for batch in (await consumer.getmany(*behind, timeout_ms=200)).values():
                    found += batch
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            await consumer.stop()

    async def events(self) -> list[Json]:
        """The events in Kafka, as JSON."""
        return [msgspec.json.decode(record.value) for record in await self.records(self.topics.events)]

    async def markers(self) -> Counter[bytes]:
        """How often each event's marker was written."""
        return Counter(key for *_, key, _ in await self.seen())

    async def seen(self) -> list[tuple[int, int, bytes, bytes | None]]:
        """Every row of the markers' changelog: partition, offset of its record, key and marker."""
        return [
            (record.partition, record.offset, *row)
            for record in await self.records(self.topics.seen)
            for row in dedup.rows_of(record.key, record.value)
        ]

    async def suppressed(self) -> set[str]:
        """The addresses that must not be mailed, as the public topic tells it."""
        latest = {record.key: record.value for record in await self.records(self.topics.suppressions)}
        return {key.decode() for key, value in latest.items() if value and suppression.decode(value).suppressed}

    async def lag(self) -> int:
        """Records on the events topic that the processors' group has not committed."""
        group = kafka.group_of(self.settings, "processor")
        client = AIOKafkaAdminClient(**kafka.client_options(self.settings))
        consumer = AIOKafkaConsumer(**kafka.client_options(self.settings))
        await client.start()
        await consumer.start()
        try:
            committed = await client.list_consumer_group_offsets(group)
            topic = self.topics.events
            ends = await consumer.end_offsets([TopicPartition(topic.name, n) for n in range(topic.partitions)])
            return sum(end - max(committed[tp].offset if tp in committed else 0, 0) for tp, end in ends.items())
        finally:
            await consumer.stop()
            await client.close()

    async def caught_up(self, patience: float = PATIENCE) -> None:
        """Wait until every event is processed."""

        async def done() -> bool:
            return await self.lag() == 0

        await until(done, "the lag is 0", patience)


@asynccontextmanager
async def running(settings: Settings, folder: Path) -> AsyncIterator[System]:
    """A system without services; those that a test starts are ended, whatever happens."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as http:
        system = System(settings, folder, http)
        try:
            yield system
        finally:
            for service in system.services:
                processes.stop(service.process, 5)
