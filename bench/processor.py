"""`make bench-processor`: events per second of the whole processor, transactions and all, from a filled topic.

Everything is on this machine: a real Kafka, one processor process, state on disk, changelogs. What comes out is
checked before the figure is printed. `ARGS="--events 500000 --rounds 3"` changes the size.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.fill import SPEAKING, Load, event, fill
from console import processes
from console.broker import open_broker
from pipeline import kafka
from pipeline.settings import Settings
from tests.e2e.system import Service, System, running

Sample = dict[str, float]


async def measure(settings: Settings, load: Load, folder: Path) -> Sample:
    """Fill the topics of these settings, process them, check the result; what was measured."""
    await kafka.apply(settings)
    async with running(settings, folder) as system:
        filled = await fill(settings, system.topics, load)
        service = system.start("processor")
        seconds, cpu = await _run(system, service, load.events)
        memory = psutil.Process(service.process.pid).memory_info().rss / 2**20
        await _check(system, load)
        return {
            "events/s": load.events / seconds,
            "cpu s/million": cpu / load.events * 1e6,
            "MB": memory,
            "in/s": filled,
        }


async def _run(system: System, service: Service, events: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of the processor, from its first processed record until it has processed all."""
    process = psutil.Process(service.process.pid)
    started: float | None = None
    done_before = cpu_before = 0.0
    while True:
        done = await _processed(system, service)
        now, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
        if started is None and done:
            started, done_before, cpu_before = now, done, cpu
        if started is not None and done >= events:
            share = events / (events - done_before)
            return (now - started) * share, (cpu - cpu_before) * share
        await asyncio.sleep(0.1)


async def _processed(system: System, service: Service) -> float:
    if service.process.poll() is not None:
        raise SystemExit(f"the processor ended:\n{service.said()[-2000:]}")
    try:
        async with system.http.get(f"{service.url}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
    except aiohttp.ClientError:
        return 0.0
    return sum(s.value for f in families if f.name == "postlog_processor_records" for s in f.samples)


async def _check(system: System, load: Load) -> None:
    """A fast wrong answer is worth nothing."""
    events = [event(load, number) for number in range(load.events)]
    markers = await system.markers()
    wanted = {e.email for e in events if e.type in SPEAKING}
    if len(markers) != len({e.id for e in events}) or set(markers.values()) != {1}:
        raise SystemExit(f"wrong: {len(markers)} markers")
    if await system.suppressed() != wanted:
        raise SystemExit("wrong: the suppression list is not what the events say")
    if await system.lag() or await system.records(system.topics.dead_letters):
        raise SystemExit("wrong: lag or dead letters are left")


def main() -> None:
    """Measure in rounds, each on topics of its own, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    load = Load(options.events)
    samples: list[Sample] = []
    with (
        tempfile.TemporaryDirectory(prefix="postlog-bench-") as name,
        open_broker(os.environ, Path(name)) as bootstrap,
    ):
        for number in range(options.rounds):
            folder = Path(name) / f"round-{number}"
            folder.mkdir()
            settings = Settings(kafka_bootstrap_servers=bootstrap, topic_prefix=f"bench{processes.free_port()}.")
            samples.append(asyncio.run(measure(settings, load, folder)))
            print(f"round {number + 1}: " + _line(samples[-1]), flush=True)
    median = {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
    print(f"processor, {load.events} events, median of {len(samples)}: " + _line(median))


def _line(sample: Sample) -> str:
    return ", ".join(f"{value:,.0f} {key}" if value >= 100 else f"{value:.1f} {key}" for key, value in sample.items())


if __name__ == "__main__":
    main()
