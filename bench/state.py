"""What do live ids cost: speed, memory, disk, and time until a lost state is back?

The window of 48 hours is filled with 0, 1, 5 and 20 million ids, as markers in the changelog, spread over the window
evenly. A processor without any state restores them, which is what it does when its folder was lost; then it is
started again with them, and processes a topic of events. The outcome is checked before a figure counts.

By itself: `python -m bench.state --quick --rounds 1`.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from bench import alone, own_topics, rows
from bench.fill import SPEAKING, Load, event, fill
from bench.results import Figures
from bench.stand import Stand, Wrong
from pipeline import kafka
from pipeline.contract import Position
from pipeline.settings import Settings
from pipeline.topics import Topic
from processor import dedup
from tests.e2e.system import Service, System, running, until

SECTION, CANDIDATE = "state", "postlog"
#: Live ids, in millions, and events that are then processed.
MILLIONS, QUICK_MILLIONS = (0, 1, 5, 20), (0, 1)
EVENTS, QUICK_EVENTS = 600_000, 200_000
#: Seconds that restoring, or processing, may take.
PATIENCE = 900.0


class Opened(msgspec.Struct, frozen=True):
    """What the processor's log says of a lane that is open: records it read for that, and how long it took, in s."""

    timestamp: datetime
    restored: int
    seconds: float


async def measure(stand: Stand, millions: tuple[int, ...] = ()) -> None:
    """Every size in every round. Raises Wrong if what comes out is not what the events say."""
    if not stand.wants(CANDIDATE):
        return
    load = Load(QUICK_EVENTS if stand.quick else EVENTS)
    for number in range(stand.rounds):
        for size in millions or (QUICK_MILLIONS if stand.quick else MILLIONS):
            with tempfile.TemporaryDirectory(prefix="state-", dir=stand.folder) as name:
                figures = await _case(stand, Path(name), size * 1_000_000, load)
            stand.add(SECTION, f"{size} million live ids", CANDIDATE, number, figures)


async def _case(stand: Stand, folder: Path, ids: int, load: Load) -> Figures:
    async with own_topics.created(stand.bootstrap, "state") as settings, running(settings, folder) as system:
        await live(settings, system, ids)
        processor = system.start("processor", LOG_FORMAT="json")
        restored = await _restored(system, processor, ids)
        if await asyncio.to_thread(processor.stop) != 0:
            raise Wrong(f"the processor did not stop in order:\n{processor.said()[-2000:]}")
        before = await _ends(system, system.topics.seen)
        await fill(settings, system.topics, load)
        processor.restart()
        rate = await _rate(system, processor, load.events)
        memory = psutil.Process(processor.process.pid).memory_info().rss / 2**20
        await _check(system, load, before)
        disk = sum(path.stat().st_size for path in processor.state.rglob("*") if path.is_file()) / 2**20
    told = {"events/s": rate, "MB": memory, "disk MB": disk}
    return {**told, "restore records/s": restored} if ids else told


async def live(settings: Settings, system: System, ids: int) -> None:
    """Let so many ids be in the window of processors that have not started yet.

    Whoever has state has committed an offset, too, so that nothing contradicts: it is the beginning.
    """
    topic = system.topics.seen
    now = int(time.time() * 1000)
    each = [ids // topic.partitions + (number < ids % topic.partitions) for number in range(topic.partitions)]
    await rows.fill(settings, topic, [markers(count, now, number) for number, count in enumerate(each)])
    source = system.topics.events
    options = {**kafka.client_options(settings), "enable_auto_commit": False}
    async with AIOKafkaConsumer(**options, group_id=kafka.group_of(settings, "processor")) as consumer:
        partitions = _partitions(source)
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, 0))


def markers(count: int, now: int, seed: int) -> Iterator[rows.Row]:
    """Rows of the markers' changelog: ids that arrived evenly within the window before now, the oldest first."""
    digests = random.Random(seed)
    for offset in range(count):
        at = now - dedup.WINDOW_MS + dedup.WINDOW_MS * (offset + 1) // count
        yield dedup.key(dedup.bucket(at), digests.randbytes(16)), dedup.pack(Position(offset, at))


def opened(said: str) -> list[Opened]:
    """The lanes that a processor's log calls open."""
    lines = (line for line in said.splitlines() if '"lane open"' in line)
    return [msgspec.json.decode(line, type=Opened) for line in lines]


def seconds(lanes: list[Opened]) -> float:
    """From the moment the first lane began to open until the last one was open."""
    begun = min(lane.timestamp.timestamp() - lane.seconds for lane in lanes)
    return max(lane.timestamp.timestamp() for lane in lanes) - begun


async def _restored(system: System, processor: Service, ids: int) -> float:
    """Records per second that were restored until every lane was open. Raises Wrong if some are missing."""
    count = system.topics.events.partitions

    async def all_open() -> list[Opened] | None:
        if processor.process.poll() is not None:
            raise Wrong(f"the processor ended:\n{processor.said()[-2000:]}")
        lanes = opened(processor.said())
        return lanes if len(lanes) == count else None

    lanes: list[Opened] = await until(all_open, "every lane is open", PATIENCE)
    restored = sum(lane.restored for lane in lanes)
    if restored != ids:
        raise Wrong(f"{restored:,} of {ids:,} ids were restored")
    return restored / seconds(lanes)


async def _rate(system: System, processor: Service, events: int) -> float:
    """Events per second, from the first that was seen processed until all are."""
    first: tuple[float, float] | None = None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, now = await _processed(system, processor), time.perf_counter()
        if done and first is None:
            first = done, now
        if first and done >= events:
            return (events - first[0]) / (now - first[1])
        await asyncio.sleep(0.1)
    raise Wrong(f"{events:,} events were not processed within {PATIENCE:g} s")


async def _processed(system: System, processor: Service) -> float:
    if processor.process.poll() is not None:
        raise Wrong(f"the processor ended:\n{processor.said()[-2000:]}")
    if await system.status(f"{processor.url}/health/live") is None:
        return 0.0
    async with system.http.get(f"{processor.url}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return sum(s.value for family in families if family.name == "postlog_processor_records" for s in family.samples)


async def _check(system: System, load: Load, before: dict[TopicPartition, int]) -> None:
    """Every event is applied once, and the list says what they say. before: where the markers' changelog ended."""
    await system.caught_up()
    events = [event(load, number) for number in range(load.events)]
    wanted = {dedup.digest(each.provider, each.id) for each in events}
    written = await _digests(system, before)
    if len(written) != len(wanted) or set(written) != wanted:
        raise Wrong(f"{len(written):,} markers were written, of {len(wanted):,} ids")
    if await system.suppressed() != {each.email for each in events if each.type in SPEAKING}:
        raise Wrong("the suppression list is not what the events say")
    if await system.records(system.topics.dead_letters):
        raise Wrong("there are dead letters")


async def _digests(system: System, before: dict[TopicPartition, int]) -> list[bytes]:
    """Digests of the markers that were committed since."""
    ends = await _ends(system, system.topics.seen)
    found: list[bytes] = []
    options = kafka.client_options(system.settings)
    async with AIOKafkaConsumer(**options, isolation_level="read_committed") as consumer:
        consumer.assign(list(before))
        for partition, offset in before.items():
            consumer.seek(partition, offset)
        while behind := [each for each in ends if await consumer.position(each) < ends[each]]:
            for records in (await consumer.getmany(*behind, timeout_ms=200)).values():
                found += [record.key[-16:] for record in records]
    return found


async def _ends(system: System, topic: Topic) -> dict[TopicPartition, int]:
    async with AIOKafkaConsumer(**kafka.client_options(system.settings)) as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(_partitions(topic))
    return ends


def _partitions(topic: Topic) -> list[TopicPartition]:
    return [TopicPartition(topic.name, number) for number in range(topic.partitions)]


if __name__ == "__main__":
    alone.run(measure, __doc__, candidates=[CANDIDATE])
