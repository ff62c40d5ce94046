"""Who receives deliveries: postlog and its peers, each one process, started alone and stopped again.

What each of them kept can be counted, and read back, from Kafka or from Redis.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench import peer, redis, tools
from bench.stand import Stand
from console import processes
from pipeline import kafka
from pipeline.settings import Settings
from tests.e2e.system import PATIENCE, SECRET, System, running

PEERS = tools.PEERS / "ingress"


class Kept(Protocol):
    """What a candidate has stored since it was started."""

    async def ids(self) -> list[str]:
        """Of all events, in any order."""

    async def count(self) -> int:
        """Events."""

    async def clear(self) -> None:
        """Make room, where what is kept lies in memory."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A candidate that listens. kept is None for one that keeps nothing."""

    url: str
    pid: int
    kept: Kept | None

    def cpu_seconds(self) -> float:
        """What its process and those below it have used."""
        process = psutil.Process(self.pid)
        return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


Start = Callable[[Stand, Path], AbstractAsyncContextManager[Receiver]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may be measured.

    start    with an empty folder of its own
    batches  whether it takes deliveries of several events
    quick    whether it belongs into a quick look
    needs    programs, besides wrk
    """

    name: str
    start: Start
    batches: bool = False
    quick: bool = False
    needs: tuple[str, ...] = ()


class InKafka:
    """Records of the events topic, which is new for each candidate."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def ids(self) -> list[str]:
        return [event["id"] for event in await self._system.events()]

    async def count(self) -> int:
        topic = self._system.topics.events
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer = AIOKafkaConsumer(**kafka.client_options(self._system.settings))
        await consumer.start()
        try:
            first, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            return sum(ends[partition] - first[partition] for partition in partitions)
        finally:
            await consumer.stop()

    async def clear(self) -> None:
        """It is on disk, and gone with its topics."""


class InRedis:
    """A list of events, or of Bull's job ids."""

    def __init__(self, port: int, name: str, *, jobs: bool = False) -> None:
        self._port = port
        self._list = f"bull:{name}:wait" if jobs else name
        self._job = f"bull:{name}:%s" if jobs else None

    async def ids(self) -> list[str]:
        found = self._ask("LRANGE", self._list, "0", "-1")
        if self._job:
            found = [self._ask("HGET", self._job % number, "data") for number in found]
        return [json.loads(event)["id"] for event in found]

    async def count(self) -> int:
        return int(self._ask("LLEN", self._list))

    async def clear(self) -> None:
        self._ask("FLUSHALL")

    def _ask(self, *words: str) -> Any:
        argv = ["redis-cli", "-p", str(self._port), "--json", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE)
        return json.loads(done.stdout)


@asynccontextmanager
async def noop(stand: Stand, folder: Path) -> AsyncIterator[Receiver]:
    """aiohttp alone."""
    async with _peer([sys.executable, str(PEERS / "noop.py")], folder) as receiver:
        yield receiver


@asynccontextmanager
async def postlog(stand: Stand, folder: Path) -> AsyncIterator[Receiver]:
    """Ours, as it is."""
    async with _system(stand, folder) as system:
        service = system.start("ingress")
        await system.ready(service)
        yield Receiver(service.url, service.process.pid, InKafka(system))


@asynccontextmanager
async def raw(stand: Stand, folder: Path) -> AsyncIterator[Receiver]:
    """aiohttp and aiokafka alone, into a topic like ours."""
    async with _system(stand, folder) as system:
        argv = [sys.executable, str(PEERS / "raw.py")]
        env = {"KAFKA_BOOTSTRAP_SERVERS": stand.bootstrap, "TOPIC": system.topics.events.name}
        async with _peer(argv, folder, InKafka(system), **env) as receiver:
            yield receiver


def flask(worker: str) -> Start:
    """Flask and a Redis list, under gunicorn with one worker of this class."""

    @asynccontextmanager
    async def start(stand: Stand, folder: Path) -> AsyncIterator[Receiver]:
        python = str(tools.peers_python())
        argv = [python, "-m", "gunicorn", "--chdir", str(PEERS), "--bind", "127.0.0.1:{port}", "--workers", "1"]
        # Its control socket would lie in the user's home.
        argv += ["--worker-class", worker, "--no-control-socket", "flask_redis:app"]
        with redis.running(folder / "redis") as port:
            async with _peer(argv, folder, InRedis(port, "events"), REDIS_PORT=str(port)) as receiver:
                yield receiver

    return start


@asynccontextmanager
async def express(stand: Stand, folder: Path) -> AsyncIterator[Receiver]:
    """Express and Bull's queue."""
    argv = ["node", str(tools.node_modules() / "express_bull.js")]
    with redis.running(folder / "redis") as port:
        kept = InRedis(port, "events", jobs=True)
        async with _peer(argv, folder, kept, REDIS_PORT=str(port), NODE_ENV="production") as receiver:
            yield receiver


CANDIDATES = (
    Candidate("aiohttp no-op", noop, quick=True),
    Candidate("postlog", postlog, batches=True, quick=True),
    Candidate("raw aiokafka", raw, batches=True, quick=True),
    Candidate("Flask + Redis (sync)", flask("sync"), batches=True, quick=True, needs=("redis-server",)),
    Candidate("Flask + Redis (gevent)", flask("gevent"), needs=("redis-server",)),
    Candidate("Express + Bull", express, needs=("redis-server", "node", "npm")),
)


@asynccontextmanager
async def _system(stand: Stand, folder: Path) -> AsyncIterator[System]:
    """Topics of its own, as topics.yaml says; they are deleted afterwards, because a run fills many."""
    settings = Settings(
        kafka_bootstrap_servers=stand.bootstrap, topic_prefix=f"{folder.name}{processes.free_port()}."
    )
    await kafka.apply(settings)
    try:
        async with running(settings, folder) as system:
            yield system
    finally:
        async with kafka.admin(settings) as client:
            await client.delete_topics([topic.name for topic in kafka.topics_of(settings).all()])


@asynccontextmanager
async def _peer(argv: Sequence[str], folder: Path, kept: Kept | None = None, **env: str) -> AsyncIterator[Receiver]:
    """A peer that listens; `{port}` in its command line is where."""
    async with peer.listening(argv, folder, SECRET=SECRET, **env) as (url, pid):
        yield Receiver(url, pid, kept)
