"""`make drill-spool`: Kafka is away for minutes under a steady load, and no delivery has to be sent again.

A real broker is killed and started again; the ingress has a spool and is killed once in the middle. Every post has to
be answered 200 (one that the killed ingress did not answer is posted again), every event applied once, and the events
of each address in their order. Says what answers took before, during and after, and how long the spool took to empty.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import aiohttp

from bench.drill import check
from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline.settings import Settings
from tests.e2e.system import Service, System, delivery, running, until

#: Addresses, each of which has its events posted one after the other.
ADDRESSES = 2_000
#: Seconds of load before Kafka goes and after it is back.
AROUND = 10.0


class Load:
    """Posts at a steady pace, whatever the answers take."""

    def __init__(self, system: System, ingress: Service) -> None:
        self.sent: defaultdict[str, list[str]] = defaultdict(list)
        self.answers: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.phase = "before"
        self._system = system
        self._ingress = ingress
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, rate: float, stop: asyncio.Event) -> None:
        """Post until `stop` is set, and until everything is answered."""
        posts: set[asyncio.Task[None]] = set()
        begun = time.monotonic()
        for count in itertools.count():
            if stop.is_set():
                break
            email, identity = f"p{count % ADDRESSES}@example.com", f"s-{count}"
            self.sent[email].append(identity)
            post = asyncio.create_task(self._post(email, identity))
            posts.add(post)
            post.add_done_callback(posts.discard)
            await asyncio.sleep(max(begun + count / rate - time.monotonic(), 0))
        await asyncio.gather(*posts)

    async def _post(self, email: str, identity: str) -> None:
        body = delivery(identity, "unsubscribed", email)
        async with self._locks[email]:
            answered = False
            while not answered:
                phase, started = self.phase, time.perf_counter()
                try:
                    self.answers[str(await self._system.post(self._ingress, body))] += 1
                    answered = True
                except (aiohttp.ClientError, OSError):
                    self.answers["none"] += 1
                    await asyncio.sleep(0.2)  # the ingress is down
            self.seconds[phase].append(time.perf_counter() - started)


async def spool(folder: Path, *, seconds: float, rate: float) -> None:
    """The drill."""
    with LocalKafka(folder / "kafka") as broker:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap)
        await kafka.apply(settings)
        async with running(settings, folder) as system:
            ingress = system.start("ingress", INGRESS_SPOOL_DIR=str(folder / "spool"))
            processor = system.start("processor")
            await system.ready(ingress, processor)
            load, enough = Load(system, ingress), asyncio.Event()
            sending = asyncio.create_task(load.run(rate, enough))
            await asyncio.sleep(AROUND)
            broker.kill()
            load.phase = "while it is away"
            await asyncio.sleep(seconds / 2)
            ingress.kill()
            ingress.restart()
            await asyncio.sleep(seconds / 2)
            held = (await system.metric(ingress, "postlog_ingress_spooled_records"))[""]
            await asyncio.to_thread(broker.start)
            load.phase, back = "after", time.monotonic()
            emptied = await _emptied(system, ingress)
            await asyncio.sleep(AROUND)
            enough.set()
            await sending
            await _recovered(system, processor)
            print(
                f"  spooled at most: {held:.0f} records; empty {emptied - back:.1f} s after Kafka was back",
                flush=True,
            )
            await _checked(system, load)


async def _emptied(system: System, ingress: Service) -> float:
    async def empty() -> bool:
        return (await system.metric(ingress, "postlog_ingress_spooled_records"))[""] == 0

    await until(empty, "the spool is empty", 300.0)
    return time.monotonic()


async def _recovered(system: System, processor: Service) -> None:
    """What a supervisor does for a processor that gave up while Kafka was away."""

    async def ready() -> bool:
        if processor.process.poll() is not None:
            processor.restart()
        return await system.status(f"{processor.url}/health/ready") == 200

    await until(ready, "the processor is back", 120.0)
    await system.caught_up(300.0)


async def _checked(system: System, load: Load) -> None:
    for phase, found in load.seconds.items():
        ordered = sorted(found)
        shown = ", ".join(
            f"p{share:g} {1000 * ordered[int(share / 100 * len(ordered))]:.0f} ms" for share in (50, 99)
        )
        print(f"  answers {phase}: {len(ordered)}, {shown}", flush=True)
    total = sum(map(len, load.sent.values()))
    print(f"  posts without an answer (the ingress was killed): {load.answers.pop('none', 0)}")
    check("answers", dict(load.answers), {"200": total})
    logged: defaultdict[str, list[str]] = defaultdict(list)
    for event in await system.events():
        logged[event["email"]].append(event["id"])
    in_order = sum(list(dict.fromkeys(logged[email])) == ids for email, ids in load.sent.items())
    check("addresses whose events are all in the log, in order", in_order, len(load.sent))
    print(f"  records that are in the log twice: {sum(map(len, logged.values())) - total}")
    markers = await system.markers()
    check("events applied, each once", (len(markers), set(markers.values())), (total, {1}))
    check("addresses suppressed", len(await system.suppressed()), len(load.sent))


def main() -> None:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="that Kafka is away [300]")
    parser.add_argument("--rate", type=float, default=1_000.0, help="posts per second [1000]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postlog-drill-", ignore_cleanup_errors=True) as name:
        asyncio.run(spool(Path(name), seconds=options.seconds, rate=options.rate))


if __name__ == "__main__":
    main()
