"""`make drill`: what an on-call night is made of, on real parts and at the real pace, checked and measured.

  address  one address in a stream fails in the handler: five tries, one letter, one alert; and the others' latency
           from post to suppression, against the same stream without it
  outage   the handler is down for a minute under load: no letter, one alert when it begins and one when it ends,
           and every call in order per address afterwards
  redrive  the handler refuses 5,000 of 15,000 events for good; mended, all are sent round again while the provider
           repeats every one of them: each is called for once, and every repetition is dropped
  replay   a word of the provider's was not known for 200,000 events: a replay without the word changes no byte, and
           one with it ends in the list of a first run with it

Everything is on this machine: a real Kafka, ingress, processor and alerter as processes of their own, a handler that
notes what it is called for, an HTTP receiver for alerts. A wrong outcome ends it with what was wrong.
`ARGS="outage --seconds 60 --rate 500"` chooses one and its size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from bench.fill import Load, event, fill
from bench.stand import Wrong
from console import processes
from console.broker import open_broker
from pipeline import deadletter, kafka, suppression
from pipeline.contract import Event, EventType
from pipeline.settings import Settings
from tests.e2e.former import FORGOTTEN
from tests.e2e.postlog import postlog
from tests.e2e.system import Service, System, delivery, running, until
from tests.receiver import Receiver, receiver

BAD = "bad@example.com"
#: When the tries of a call that keeps failing begin, in seconds after the first.
PLANNED = (0, 1, 3, 7, 15)

HANDLER = """
import json, os, time
from processor.handler import Handler, Permanent

FOLDER = {folder!r}
file = os.open(FOLDER + "/calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def handle(event, suppression):
    mended = os.path.exists(FOLDER + "/mended")
    bad = os.path.exists(FOLDER + "/down") or event.email == {bad!r} and not mended
    refused = event.email.startswith("refused") and not mended
    os.write(file, (json.dumps([event.email, event.id, time.time(), not bad and not refused]) + "\\n").encode())
    if refused:
        raise Permanent("refused")
    if bad:
        raise OSError("the other side is down")

handlers = [Handler("crm", handle)]
"""


def check(what: str, found: object, wanted: object) -> None:
    """Print a line of the report, or end it."""
    if found != wanted:
        raise Wrong(f"wrong: {what}: {found!r}, wanted {wanted!r}")
    print(f"  {what}: {found}", flush=True)


@dataclass(frozen=True)
class Call:
    """One try of the handler; at in seconds since the epoch."""

    email: str
    id: str
    at: float
    good: bool


@dataclass
class Scene:
    """A running system with the handler and a place that alerts go to."""

    system: System
    folder: Path
    ingress: Service
    processor: Service
    alerts: Receiver

    def calls(self) -> list[Call]:
        """Every try so far, in order."""
        return [Call(*json.loads(line)) for line in (self.folder / "calls").read_text().splitlines()]

    async def quiet(self, calls: int, patience: float) -> None:
        """Wait until so many calls succeeded and nothing is owed."""

        async def done() -> bool:
            owed = (await self.system.metric(self.processor, "postlog_processor_calls_owed")).values()
            return sum(call.good for call in self.calls()) >= calls and not sum(owed)

        await until(done, "every call is made", patience)

    async def told(self) -> list[str]:
        """The titles of the alerts so far."""
        titles = []
        while not self.alerts.took.empty():
            titles.append(self.alerts.took.get_nowait()["title"])
        return titles


@asynccontextmanager
async def scene(bootstrap: str, folder: Path) -> AsyncIterator[Scene]:
    """A system with topics of its own."""
    settings = Settings(kafka_bootstrap_servers=bootstrap, topic_prefix=f"drill{processes.free_port()}.")
    await kafka.apply(settings)
    _plug(folder)
    async with receiver() as alerts, running(settings, folder) as system:
        processor = system.start("processor", HANDLERS="plugged", PYTHONPATH=str(folder))
        ingress = system.start("ingress")
        alerter = system.start("alerter", ALERT_URLS=alerts.url, ALERT_DIGEST_SECONDS="2")
        await system.ready(processor, ingress, alerter)
        yield Scene(system, folder, ingress, processor, alerts)


def _plug(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "plugged.py").write_text(HANDLER.format(folder=str(folder), bad=BAD))
    (folder / "calls").touch()


class Stopwatch:
    """Posts at a steady pace, whatever the answers take, and notes when each suppression is on its public topic."""

    def __init__(self, found: Scene) -> None:
        self._scene = found
        self._posted: dict[str, float] = {}
        self._latency: dict[str, float] = {}

    async def run(self, addresses: list[str], rate: float, *, kind: str = "unsubscribed") -> None:
        """Post one event for each address at `rate` per second; return when every suppression was seen."""
        system = self._scene.system
        consumer = AIOKafkaConsumer(
            system.topics.suppressions.name, **kafka.client_options(system.settings), isolation_level="read_committed"
        )
        await consumer.start()
        watching = asyncio.create_task(self._watch(consumer))
        posts: set[asyncio.Task[None]] = set()
        try:
            started = time.perf_counter()
            for number, email in enumerate(addresses):
                wait = started + number / rate - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                self._posted[email] = started + number / rate
                posts.add(asyncio.create_task(self._post(email, delivery(f"u-{email}", kind, email))))
            await asyncio.gather(*posts)
            await until(self._all_seen, "every suppression is seen", 120.0)
        finally:
            watching.cancel()
            await consumer.stop()

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share of the others' events became a suppression."""
        found = sorted(seconds for email, seconds in self._latency.items() if email != BAD)
        return found[min(int(share * len(found)), len(found) - 1)] * 1000

    async def _post(self, email: str, body: bytes) -> None:
        await self._scene.system.deliver(self._scene.ingress, [body], at_once=1)

    async def _all_seen(self) -> bool:
        return self._latency.keys() == self._posted.keys()

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            email, now = record.key.decode(), time.perf_counter()
            if email in self._posted and suppression.decode(record.value).suppressed:
                self._latency.setdefault(email, now - self._posted[email])


async def address(bootstrap: str, folder: Path, options: argparse.Namespace) -> None:
    """One failing address among many."""
    percentiles: dict[bool, list[float]] = {False: [], True: []}
    for number in range(options.rounds):
        for failing in (False, True):
            where = folder / f"address-{number}-{failing}"
            percentiles[failing].append(await _stream(bootstrap, where, options, failing=failing))
    for failing, found in percentiles.items():
        shown = ", ".join(f"{value:.0f}" for value in found)
        print(f"p99 from post to suppression {'with' if failing else 'without'} the failing address: {shown} ms")


async def _stream(bootstrap: str, folder: Path, options: argparse.Namespace, *, failing: bool) -> float:
    async with scene(bootstrap, folder) as found:
        addresses = [f"p{number}@example.com" for number in range(options.events)]
        if failing:
            addresses.insert(len(addresses) // 10, BAD)
        warming = [f"w{number}@example.com" for number in range(int(2 * options.rate))]
        await Stopwatch(found).run(warming, options.rate)
        watch = Stopwatch(found)
        await watch.run(addresses, options.rate)
        p50, p99 = watch.percentile(0.5), watch.percentile(0.99)
        print(f"{'with' if failing else 'without'} it: p50 {p50:.0f} ms, p99 {p99:.0f} ms", flush=True)
        await found.quiet(options.events + len(warming), 120.0)
        if failing:
            await _one_letter(found)
        return watch.percentile(0.99)


async def _one_letter(found: Scene) -> None:
    """Five tries at the planned moments, one letter, one alert; and once mended, one application."""
    system = found.system
    await until(lambda: system.records(system.topics.dead_letters), "there is a letter")
    tries = [call.at for call in found.calls() if call.email == BAD]
    late = [at - tries[0] for at in tries]
    check("tries", len(tries), len(PLANNED))
    in_time = all(0.9 * planned <= at <= 1.1 * planned + 0.05 for at, planned in zip(late, PLANNED, strict=True))
    check(f"tries at {', '.join(f'{at:.2f}' for at in late)} s are as planned", in_time, True)
    letters = [deadletter.read(record) for record in await system.records(system.topics.dead_letters)]
    check("letters", [(letter.handler, letter.tries) for letter in letters], [("crm", 5)])
    await found.alerts.came.get()
    await asyncio.sleep(5)  # two digests' time: what should not come has had its chance
    check("alerts", len(await found.told()), 1)
    (found.folder / "mended").touch()
    redriven = await asyncio.to_thread(postlog, "dlq", "redrive", "--all", "--yes", env=_environment(system.settings))
    check("redrive's exit code", redriven.returncode, 0)
    await until(lambda: _good(found, BAD), "it is called for again")
    await found.quiet(1, 60.0)
    check("calls that succeeded for it", sum(call.good for call in found.calls() if call.email == BAD), 1)


async def _good(found: Scene, email: str) -> bool:
    return any(call.good for call in found.calls() if call.email == email)


async def outage(bootstrap: str, folder: Path, options: argparse.Namespace) -> None:
    """The handler is down for a while under load."""
    async with scene(bootstrap, folder / "outage") as found:
        sent: defaultdict[str, list[str]] = defaultdict(list)
        pause = 1 / options.rate
        begun = time.monotonic()
        count, posts = 0, set()
        locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        while (passed := time.monotonic() - begun) < options.seconds + 20:
            _switch(found.folder / "down", 5 <= passed < 5 + options.seconds)
            email, identity = f"p{count % 500}@example.com", f"o-{count}"
            sent[email].append(identity)
            posts.add(asyncio.create_task(_in_order(found, locks[email], email, identity)))
            count += 1
            await asyncio.sleep(max(begun + count * pause - time.monotonic(), 0))
        await asyncio.gather(*posts)
        print(f"outage: {count} events posted")
        await found.quiet(count, 300.0)
        done: defaultdict[str, list[str]] = defaultdict(list)
        for call in found.calls():
            if call.good:
                done[call.email].append(call.id)
        check(
            "addresses whose calls are all there, once and in order", sum(done[e] == sent[e] for e in sent), len(sent)
        )
        check("dead letters", len(await found.system.records(found.system.topics.dead_letters)), 0)
        down = [call.at for call in found.calls() if not call.good]
        gaps = [f"{later - earlier:.1f}" for earlier, later in pairwise(down) if later - earlier > 0.5]
        print(f"  failed calls: {len(down)}; pauses between probes: {', '.join(gaps)} s")
        await asyncio.sleep(10)  # five digests' time: what should not come has had its chance
        titles = await found.told()
        print("  " + "\n  ".join(titles))
        check("alerts", len(titles), 2)


async def _in_order(found: Scene, lock: asyncio.Lock, email: str, identity: str) -> None:
    async with lock:
        await found.system.deliver(found.ingress, [delivery(identity, "opened", email)], at_once=1)


async def redrive(bootstrap: str, folder: Path, options: argparse.Namespace) -> None:
    """Thousands of letters go round again while their events are repeated."""
    async with scene(bootstrap, folder / "redrive") as found:
        system = found.system
        refused = [delivery(f"r-{n}", "unsubscribed", f"refused{n}@example.com") for n in range(options.letters)]
        taken = [delivery(f"t-{n}", "unsubscribed", f"taken{n}@example.com") for n in range(2 * options.letters)]
        # Mixed, so that the handler refuses a third of what it gets: it is not down.
        await system.deliver(
            found.ingress, [body for three in zip(refused, taken[::2], taken[1::2], strict=True) for body in three]
        )
        await found.quiet(len(taken), 120.0)
        check("letters", len(await system.records(system.topics.dead_letters)), len(refused))
        (found.folder / "mended").touch()
        arguments = ("dlq", "redrive", "--all", "--yes", "--error", "Permanent")
        sent, _ = await asyncio.gather(
            asyncio.to_thread(postlog, *arguments, env=_environment(system.settings)),
            system.deliver(found.ingress, refused),
        )
        check("redrive's exit code", sent.returncode, 0)
        await found.quiet(len(taken) + len(refused), 120.0)
        await system.caught_up()
        good = Counter(call.id for call in found.calls() if call.good)
        check("events called for with success", (len(good), set(good.values())), (len(taken) + len(refused), {1}))
        dropped = await system.metric(found.processor, "postlog_processor_duplicates_total")
        check("repetitions dropped", int(sum(dropped.values())), len(refused))
        markers = await system.markers()
        check("markers", (len(markers), set(markers.values())), (len(taken) + len(refused), {1}))
        check("letters", len(await system.records(system.topics.dead_letters)), len(refused))


async def replay(bootstrap: str, folder: Path, options: argparse.Namespace) -> None:
    """A day is processed again, before and after a word became known."""
    load = Load(options.replayed)
    first = Settings(kafka_bootstrap_servers=bootstrap, topic_prefix=f"drill{processes.free_port()}.")
    fresh = Settings(kafka_bootstrap_servers=bootstrap, topic_prefix=f"drill{processes.free_port()}.")
    for settings in (first, fresh):
        await kafka.apply(settings)
    async with running(first, folder / "first") as system:
        await fill(first, system.topics, load, _forgotten)
        before = await _listed(system, "tests.e2e.former", "processor")
        print(f"replay: {len(before)} addresses listed of {load.events} events", flush=True)
        await _again(first)
        again = await _listed(system, "tests.e2e.former", "processor")
        check("a replay without a change leaves every byte", again == before, True)
        await _again(first)
        after = await _listed(system, "processor")
    async with running(fresh, folder / "fresh") as system:
        await fill(fresh, system.topics, load, _forgotten)
        wanted = await _listed(system, "processor")
    check("with the word it is a first run's list, byte for byte", after == wanted, True)
    check("the word made a difference", len(after) > len(before), True)


def _forgotten(load: Load, number: int) -> Event:
    """A hard bounce as an ingress stored it whose table did not have the word."""
    made = event(load, number)
    if made.type is not EventType.HARD_BOUNCE:
        return made
    return msgspec.structs.replace(made, type=EventType.UNKNOWN, provider_type=FORGOTTEN)


async def _listed(system: System, *module: str) -> dict[bytes, bytes]:
    """Process everything; the list's entries."""
    processor = system.start("processor", module=module)
    await system.ready(processor)
    await system.caught_up(300.0)
    check("the processor's exit code", processor.stop(), 0)
    return {record.key: record.value for record in await system.records(system.topics.suppressions)}


def _environment(settings: Settings) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "TOPIC_PREFIX": settings.topic_prefix}


async def _again(settings: Settings) -> None:
    done = await asyncio.to_thread(postlog, "replay", "--from-beginning", "--yes", env=_environment(settings))
    check("replay's exit code", done.returncode, 0)


def _switch(file: Path, on: bool) -> None:
    if on:
        file.touch()
    else:
        file.unlink(missing_ok=True)


DRILLS: dict[str, Callable[..., Any]] = {"address": address, "outage": outage, "redrive": redrive, "replay": replay}


def main() -> None:
    """Run the drills that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drills", nargs="*", help=", ".join(DRILLS))
    parser.add_argument("--events", type=int, default=20_000, help="of the stream in `address`")
    parser.add_argument("--rate", type=float, default=2_000.0, help="events per second")
    parser.add_argument("--rounds", type=int, default=1, help="of `address`")
    parser.add_argument("--seconds", type=float, default=60.0, help="that the handler is down in `outage`")
    parser.add_argument("--letters", type=int, default=5_000, help="that go round again in `redrive`")
    parser.add_argument("--replayed", type=int, default=200_000, help="events in `replay`")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="postlog-drill-") as name,
        open_broker(os.environ, Path(name)) as bootstrap,
    ):
        for drill in options.drills or DRILLS:
            print(f"== {drill}", flush=True)
            asyncio.run(DRILLS[drill](bootstrap, Path(name), options))


if __name__ == "__main__":
    main()
