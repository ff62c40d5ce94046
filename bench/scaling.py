"""Do several processors together do what one does several times, and what does one loud address cost?

1, 2 and 4 processes share 12 lanes, once with addresses spread evenly and once with a fifth of all events for one of
them. All processes begin at the same moment with everything there: they are frozen while the topic is filled. Figures
of `capacity` rest on what this finds: CPU per event must not grow with the number of processes.

By itself: `python -m bench --sections scaling --quick --rounds 1`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import psutil

from bench import sizes
from bench.fill import SPEAKING, Load, event, fill, forget
from bench.results import Figures
from bench.stand import Stand, Wrong
from pipeline import kafka
from pipeline.contract import Event
from pipeline.settings import Settings
from tests.e2e.system import Service, System, running, until

SECTION = "scaling"
CANDIDATE = "postlog"
HOT = "everybody@example.com"
#: Longer than filling takes, in seconds: the group must not give a frozen processor up.
SESSION_SECONDS = 900
#: Seconds that processing may stand still before it is given up.
PATIENCE = 120.0

Make = Callable[[Load, int], Event]


@dataclass(frozen=True, slots=True)
class Case:
    """So many processes, on events that `make` makes."""

    name: str
    processes: int
    make: Make


def skewed(load: Load, number: int, *, every: int = 5) -> Event:
    """The number-th event, where one address has each `every`-th; a repeat has the address of its original."""
    made = event(load, number)
    if int(made.id.removeprefix("evt_")) % every:
        return made
    raw = msgspec.json.encode({"id": made.id, "type": made.type.value, "data": {"email": HOT}})
    return msgspec.structs.replace(made, email=HOT, email_given=HOT, raw=msgspec.Raw(raw))


CASES = (
    Case("1 process", 1, event),
    Case("2 processes", 2, event),
    Case("4 processes", 4, event),
    Case("1 process, skewed", 1, skewed),
    Case("2 processes, skewed", 2, skewed),
    Case("4 processes, skewed", 4, skewed),
)


async def measure(stand: Stand) -> None:
    """Every case in each round, on topics of its own. Raises Wrong if a result is not what the events say."""
    if not stand.wants(CANDIDATE):
        return
    load = Load(200_000 if stand.quick else 1_000_000)
    for number in range(stand.rounds):
        for case in CASES:
            stand.add(SECTION, case.name, CANDIDATE, number, await _case(stand, load, case, number))


async def _case(stand: Stand, load: Load, case: Case, number: int) -> Figures:
    settings = Settings(kafka_bootstrap_servers=stand.bootstrap, topic_prefix=f"scaling{number}-{CASES.index(case)}.")
    await kafka.apply(settings)
    async with running(settings, stand.folder / settings.topic_prefix) as system:
        patience = str(SESSION_SECONDS)
        workers = [
            system.start("processor", PROCESSOR_SESSION_TIMEOUT_SECONDS=patience) for _ in range(case.processes)
        ]
        await system.ready(*workers)
        await _shared_out(system, workers)
        for worker in workers:
            worker.send(signal.SIGSTOP)
        await fill(settings, system.topics, load, case.make)
        topic = (await sizes.of_topics(settings))[system.topics.events.name]
        seconds, cpu = await _run(system, workers, load.events)
        await _check(system, load, case.make)
    await forget(settings)
    return {
        "events/s": load.events / seconds,
        "cpu s/million": cpu / load.events * 1e6,
        "topic B/event": topic / load.events,
    }


async def _shared_out(system: System, workers: Sequence[Service]) -> None:
    """Wait until each has its share of open lanes."""
    share = system.topics.events.partitions / len(workers)

    async def shared() -> bool:
        lanes = [sum((await system.metric(each, "postlog_processor_lane_open")).values()) for each in workers]
        return all(count == share for count in lanes)

    await until(shared, "every lane is open, in equal shares")


async def _run(system: System, workers: Sequence[Service], events: int) -> tuple[float, float]:
    """Thaw them; seconds, and CPU seconds of all of them, until everything is processed."""
    watched = [psutil.Process(worker.process.pid) for worker in workers]
    cpu_before, began = _cpu(watched), time.perf_counter()
    for worker in workers:
        worker.send(signal.SIGCONT)
    done, moved = 0.0, began
    while done < events:
        await asyncio.sleep(0.1)
        before, done = done, await _processed(system, workers)
        now = time.perf_counter()
        moved = now if done != before else moved
        if now - moved > PATIENCE:
            raise Wrong(f"no progress for {PATIENCE:g} s at {done:,.0f} of {events:,} events")
    return time.perf_counter() - began, _cpu(watched) - cpu_before


def _cpu(watched: Sequence[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in watched))


async def _processed(system: System, workers: Sequence[Service]) -> float:
    for worker in workers:
        if worker.process.poll() is not None:
            raise Wrong(f"a processor ended:\n{worker.said()[-2000:]}")
    ask = partial(system.metric, name="postlog_processor_records_total")
    counts = await asyncio.gather(*[ask(worker) for worker in workers])
    return sum(sum(found.values()) for found in counts)


async def _check(system: System, load: Load, make: Make) -> None:
    """Every id has one marker, and the suppression list is what the events say."""
    await system.caught_up()
    events = [make(load, number) for number in range(load.events)]
    markers = await system.markers()
    if len(markers) != len({(e.email, e.id) for e in events}) or set(markers.values()) != {1}:
        raise Wrong(f"{len(markers):,} markers are not one for each event")
    if await system.suppressed() != {e.email for e in events if e.type in SPEAKING}:
        raise Wrong("the suppression list is not what the events say")
    if await system.records(system.topics.dead_letters):
        raise Wrong("there are dead letters")
