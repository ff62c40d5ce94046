"""`make drill-availability`: how long anybody waits while processes come, go, die and are restarted.

  join      a third processor joins two and leaves again
  restart   every service is restarted, one process after the other; the ingress has two
  takeover  a processor is killed with millions of ids in the window, with a copy of its state and without

Events are posted at a steady pace; of each it is known when it was posted and when its marker was committed. What is
not answered 200 is posted again, and every event has to be applied.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.fill import Load, fill
from bench.stand import Wrong
from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline.settings import Settings
from processor import changelog, dedup
from tests.e2e.system import Service, System, delivery, running, until

SESSION_SECONDS = 10
#: Long enough for millions of events to be processed, in seconds.
PATIENCE = 900.0


class Traffic:
    """A steady stream of events, and what each of them waited for until it was applied, in seconds."""

    def __init__(self, system: System, ingress: Service, rate: float) -> None:
        self.posted: dict[bytes, float] = {}
        self.applied: dict[bytes, float] = {}
        self.refused = 0
        self._system = system
        self._ingress = ingress
        self._rate = rate
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Traffic:
        watched = asyncio.Event()
        self._watching = asyncio.create_task(self._watch(watched))
        await watched.wait()
        self._posting = asyncio.create_task(self._post_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._posting
        with suppress(AssertionError):
            await until(self._all_applied, "everything is applied", 120.0)
        self._watching.cancel()
        if missing := len(self.posted.keys() - self.applied.keys()):
            raise Wrong(f"wrong: {missing} events were not applied")

    async def _all_applied(self) -> bool:
        return not self.posted.keys() - self.applied.keys()

    def waited(self) -> list[float]:
        return sorted(self.applied[name] - posted for name, posted in self.posted.items())

    def report(self, what: str) -> None:
        """One line: what the median, all but one of a hundred, and the unluckiest event waited for."""
        waited = self.waited()
        print(
            f"{what}: {len(waited):,} events, {self.refused} not answered 200; from post to applied: median "
            f"{statistics.median(waited) * 1000:.0f} ms, p99 {waited[int(len(waited) * 0.99)] * 1000:.0f} ms, "
            f"longest {waited[-1]:.1f} s",
            flush=True,
        )

    async def _post_all(self) -> None:
        begun, posts = time.monotonic(), set()
        for number in itertools.count():
            if self._stop.is_set():
                break
            post = asyncio.create_task(self._post(number))
            posts.add(post)
            post.add_done_callback(posts.discard)
            await asyncio.sleep(max(begun + number / self._rate - time.monotonic(), 0))
        await asyncio.gather(*posts)

    async def _post(self, number: int) -> None:
        identity = f"live-{number}-{id(self)}"
        body = delivery(identity, "unsubscribed", f"{number % 1000}@example.com")
        self.posted[dedup.digest("nexuspromail", identity)] = time.monotonic()
        while True:
            try:
                if await self._system.post(self._ingress, body) == 200:
                    return
            except (aiohttp.ClientError, OSError):
                pass
            self.refused += 1
            await asyncio.sleep(0.1)

    async def _watch(self, watched: asyncio.Event) -> None:
        """Note when markers are committed, from now on."""
        topic = self._system.topics.seen
        settings = self._system.settings
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer = AIOKafkaConsumer(**kafka.client_options(settings), isolation_level="read_committed")
        async with consumer:
            consumer.assign(partitions)
            for partition, end in (await consumer.end_offsets(partitions)).items():
                consumer.seek(partition, end)
            watched.set()
            while True:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    now = time.monotonic()
                    for key, _ in changelog.rows_of("seen", records):
                        name = key[-16:]
                        if name in self.posted:
                            self.applied.setdefault(name, now)


async def started(system: System, name: str, **env: str) -> Service:
    service = system.start(name, PROCESSOR_SESSION_TIMEOUT_SECONDS=str(SESSION_SECONDS), **env)  # type: ignore[arg-type]
    await system.ready(service)
    return service


async def settled(system: System, *processors: Service) -> None:
    """Every partition has an open lane, shared out evenly."""
    share = system.topics.events.partitions / len(processors)

    async def shared() -> bool:
        lanes = [sum((await system.metric(each, "postlog_processor_lane_open")).values()) for each in processors]
        return all(count == share for count in lanes)

    await until(shared, "every lane is open")


async def join(system: System, rate: float) -> None:
    ingress = await started(system, "ingress")
    two = [await started(system, "processor") for _ in range(2)]
    await settled(system, *two)
    async with Traffic(system, ingress, rate) as calm:
        await asyncio.sleep(10)
    calm.report("nothing happens")
    async with Traffic(system, ingress, rate) as traffic:
        await asyncio.sleep(3)
        third = await started(system, "processor")
        await settled(system, *two, third)
        await asyncio.sleep(3)
    traffic.report("a third processor joins")
    async with Traffic(system, ingress, rate) as traffic:
        await asyncio.sleep(3)
        if await asyncio.to_thread(third.stop) != 0:
            raise Wrong("wrong: the processor did not stop in order")
        await settled(system, *two)
        await asyncio.sleep(3)
    traffic.report("it leaves again")


async def restart(system: System, rate: float) -> None:
    ingress = await started(system, "ingress", INGRESS_WORKERS="2")
    others = [await started(system, name) for name in ("processor", "processor", "lookup", "alerter")]
    await settled(system, *others[:2])
    async with Traffic(system, ingress, rate) as traffic:
        await asyncio.sleep(3)
        former = {child.pid for child in psutil.Process(ingress.process.pid).children()}
        ingress.send(signal.SIGHUP)

        async def replaced() -> bool:
            now = {child.pid for child in psutil.Process(ingress.process.pid).children()}
            return len(now) == 2 and not now & former

        await until(replaced, "the ingress has other processes")
        for service in others:
            await asyncio.to_thread(service.stop)
            service.restart()
            await system.ready(service)
        await settled(system, *others[:2])
        await asyncio.sleep(3)
    traffic.report("every process is restarted")
    if traffic.refused:
        raise Wrong(f"wrong: {traffic.refused} posts were not answered 200")


async def takeover(system: System, rate: float, ids: int, standbys: int) -> None:
    """How long after a kill -9 every lane is open again and the first event of each is applied."""
    ingress = await started(system, "ingress")
    env = {"PROCESSOR_STANDBY_LANES": str(standbys)}
    one = await started(system, "processor", **env)
    await fill(system.settings, system.topics, Load(events=ids, duplicates=0.0))
    await system.caught_up(PATIENCE)
    two = await started(system, "processor", **env)
    await settled(system, one, two)

    async def copied() -> bool:
        behind = (await system.metric(two, "postlog_processor_standby_lag")).values()
        return len(behind) == system.topics.events.partitions / 2 and not any(behind)

    if standbys:
        begun = time.monotonic()
        await until(copied, "the second has copies", PATIENCE)
        print(f"copies of half of {ids:,} ids were made in {time.monotonic() - begun:.0f} s", flush=True)
    async with Traffic(system, ingress, rate) as traffic:
        await asyncio.sleep(3)
        one.kill()
        killed = time.monotonic()
        await settled(system, two)
        opened = time.monotonic() - killed
    traffic.report(f"takeover with {ids:,} ids and {standbys or 'no'} copy: all lanes open after {opened:.1f} s")


async def drill(folder: Path, name: str, work: Callable[[System], Awaitable[None]]) -> None:
    """One drill on a Kafka of its own."""
    with LocalKafka(folder / name / "kafka") as broker:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap)
        await kafka.apply(settings)
        async with running(settings, folder / name) as system:
            await work(system)


async def main(drills: list[str], rate: float, ids: int) -> None:
    works: dict[str, Callable[[System], Awaitable[None]]] = {
        "join": lambda system: join(system, rate),
        "restart": lambda system: restart(system, rate),
        "takeover-without": lambda system: takeover(system, rate, ids, 0),
        "takeover-with": lambda system: takeover(system, rate, ids, 1),
    }
    with tempfile.TemporaryDirectory(prefix="postlog-availability-") as folder:
        for name, work in works.items():
            if name.split("-")[0] in drills:
                await drill(Path(folder), name, work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.availability", description=__doc__.partition("\n")[0])
    parser.add_argument("drills", nargs="*", help="join, restart, takeover [all]")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second [200]")
    parser.add_argument("--ids", type=int, default=5_000_000, help="ids in the window at a takeover [5000000]")
    asked = parser.parse_args()
    asyncio.run(main(asked.drills or ["join", "restart", "takeover"], asked.rate, asked.ids))
