"""What becomes of the processor when millions of ids are in the window?

So many markers are written to their changelog as a processor writes them, and read back by one that has no state.
Then new events are processed on top of them. Nothing of an id but its digest and its place is in a marker, so random
ones cost the same as real ones.

By itself: `python -m bench --sections state --quick --rounds 1`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaProducer

from bench import sizes
from bench.fill import Load, event, fill, forget
from bench.results import Figures
from bench.stand import Stand, Wrong
from bench.workers import processed_by, watch
from console import processes
from pipeline import kafka
from pipeline.contract import Event, Position
from pipeline.settings import Settings
from processor import dedup
from tests.e2e.system import System, running

SECTION, CANDIDATE = "state", "postlog"
MILLIONS, QUICK_MILLIONS = (0, 1, 5, 20), (0, 1)
EVENTS, QUICK_EVENTS = 600_000, 200_000
#: Events that come before everything else, so that each lane has a committed offset; and pages under way at once.
FIRST, AT_ONCE = 2_000, 48
#: Seconds that restoring may take.
PATIENCE = 900.0
_OPENED = re.compile(r"^(\S+) .*lane open .*restored=(\d+) seconds=([\d.]+)", re.MULTILINE)


async def measure(stand: Stand) -> None:
    """Every size in each round, on topics of its own."""
    if not stand.wants(CANDIDATE):
        return
    events = QUICK_EVENTS if stand.quick else EVENTS
    for number in range(stand.rounds):
        for millions in QUICK_MILLIONS if stand.quick else MILLIONS:
            prefix = f"state{millions}-{processes.free_port()}."
            settings = Settings(kafka_bootstrap_servers=stand.bootstrap, topic_prefix=prefix)
            folder = stand.folder / prefix
            await kafka.apply(settings)
            async with running(settings, folder) as system:
                figures = await _measured(system, millions * 1_000_000, events)
            stand.add(
                SECTION, f"{millions} million live ids" if millions else "0 live ids", CANDIDATE, number, figures
            )
            await forget(settings)
            shutil.rmtree(folder)


async def _measured(system: System, ids: int, events: int) -> Figures:
    await fill(system.settings, system.topics, Load(FIRST, duplicates=0.0))
    service = system.start("processor")
    await system.ready(service)
    await system.caught_up()
    _stop(service.stop())
    shutil.rmtree(service.state)
    await _remember(system, ids)
    service.log.unlink()
    service.restart()
    await system.ready(service, patience=PATIENCE)
    restored = restored_of(service.said())
    if ids and restored["rows"] < ids:
        raise Wrong(f"{restored['rows']:,.0f} rows were restored, and there are more than {ids:,}")
    _stop(service.stop())
    await fill(system.settings, system.topics, Load(events), make=_later)
    service.restart()
    figures = await watch([service.process], functools.partial(processed_by, system, service), events)
    await system.caught_up()
    lost = events + FIRST + ids - events // 10 - len(await system.markers()) if ids <= 1_000_000 else 0
    if lost:
        raise Wrong(f"{lost:,} markers are missing")
    figures["disk MB"] = sizes.of_folder(service.state) / 2**20
    return figures | ({"restore records/s": restored["rows"] / restored["seconds"]} if ids else {})


def _stop(code: int) -> None:
    if code:
        raise Wrong(f"the processor ended with {code}")


def _later(load: Load, number: int) -> Event:
    """Events that none of the first ones was."""
    made = event(load, number)
    identity = f"later-{made.id}"
    return msgspec.structs.replace(made, id=identity, provider_event_id=identity)


async def _remember(system: System, ids: int) -> None:
    """Write that many markers of now, spread over the lanes."""
    topic = system.topics.seen
    producer = AIOKafkaProducer(**kafka.client_options(system.settings), acks="all", max_batch_size=512 * 1024)
    async with producer:
        for number, page in enumerate(pages(ids, int(time.time() * 1000))):
            await producer.send(topic.name, page, partition=number % topic.partitions)
            if number % AT_ONCE == AT_ONCE - 1:
                await producer.flush()


def pages(ids: int, now: int) -> Iterator[bytes]:
    """Markers of ids that arrived evenly within the window before now (ms), the oldest first."""
    for start in range(0, ids, dedup.PAGE_ROWS):
        at = now - dedup.WINDOW_MS + dedup.WINDOW_MS * (start + 1) // ids
        bucket, marker = dedup.first_key(dedup.bucket(at)), dedup.pack(Position(start, at))
        count = min(dedup.PAGE_ROWS, ids - start)
        digests = os.urandom(16 * count)
        yield from dedup.pages({bucket + digests[at : at + 16]: marker for at in range(0, 16 * count, 16)})


def restored_of(said: str) -> dict[str, float]:
    """Rows that lanes read, and seconds from when the first began until the last was open."""
    opened = [
        (datetime.fromisoformat(at).timestamp(), int(rows), float(took)) for at, rows, took in _OPENED.findall(said)
    ]
    began, ended = min(at - took for at, _, took in opened), max(at for at, _, _ in opened)
    return {"rows": float(sum(rows for _, rows, _ in opened)), "seconds": ended - began}
