"""How long after its post is a bounce known to whoever asks, while events come at a steady rate?

Ingress, processor, lookup and Kafka are all on this machine, and so is who posts and who asks: one process keeps the
rate up, whatever answers take, another one posts a few hard bounces a second of addresses that nobody has heard of,
and asks the lookup about each until it is suppressed. All answers have to be 200, all events processed in the end.

By itself: `python -m bench.end_to_end --quick --rounds 1`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from bench import alone, own_topics
from bench.goals import REACHED
from bench.load import MARK, PATIENCE, READY, Probed, Sent
from bench.results import Figures
from bench.stand import Stand, Wrong
from console import processes
from tests.e2e.system import Service, System, running, until

SECTION, CANDIDATE = "end to end", "postlog"
#: Events per second.
RATES, QUICK_RATES = (500, 2_000, 5_000), (500, 2_000)
#: Of these, probes: so few that asking about them is no load.
PROBES = 25
#: Seconds.
SECONDS, QUICK_SECONDS = 10.0, 5.0
#: The broker is new, and for its first minutes its compiler takes a core that it has for itself later.
WARM_UP, QUICK_WARM_UP, WARM_UP_RATE = 25.0, 3.0, 1_500
#: Seconds that signing all in advance may take, and processing what is left.
_READY, _LEFT = 60.0, 120.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Child:
    """A process of bench.load."""

    process: subprocess.Popen[bytes]
    log: Path

    async def ready(self) -> None:
        """Wait until it could begin. Raises Wrong if it ends instead."""

        async def says() -> bool:
            if self.process.poll() is not None:
                raise Wrong(f"bench.load ended:\n{self.log.read_text()[-2000:]}")
            return READY in self.log.read_text().splitlines()

        await until(says, "all deliveries are signed", _READY)

    def begin(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    async def found(self, kind: type[T], seconds: float) -> T:
        """What it says at the end, which comes after so many seconds at most. Raises Wrong if it says nothing."""

        async def ended() -> bool:
            return self.process.poll() is not None

        await until(ended, "bench.load has ended", seconds + 2 * PATIENCE)
        for line in self.log.read_text().splitlines():
            if line.startswith(MARK):
                return msgspec.json.decode(line.removeprefix(MARK), type=kind, strict=False)
        raise Wrong(f"bench.load said no figures:\n{self.log.read_text()[-2000:]}")


async def measure(stand: Stand) -> None:
    """Every rate in every round; each round has services of its own. Raises Wrong."""
    if not stand.wants(CANDIDATE):
        return
    for number in range(stand.rounds):
        with tempfile.TemporaryDirectory(prefix="end-to-end-", dir=stand.folder) as name:
            async with (
                own_topics.created(stand.bootstrap, "end-to-end") as settings,
                running(settings, Path(name)) as system,
            ):
                await _round(stand, system, Path(name), number)


async def _round(stand: Stand, system: System, folder: Path, number: int) -> None:
    services = [system.start(name) for name in ("ingress", "processor", "lookup")]
    await system.ready(*services)
    await _load(system, services, folder, WARM_UP_RATE, QUICK_WARM_UP if stand.quick else WARM_UP)
    seconds = QUICK_SECONDS if stand.quick else SECONDS
    for rate in QUICK_RATES if stand.quick else RATES:
        figures = await _load(system, services, folder, rate, seconds)
        stand.add(SECTION, f"{rate:,} events/s", CANDIDATE, number, figures)


async def _load(system: System, services: list[Service], folder: Path, rate: int, seconds: float) -> Figures:
    """One rate for so long, until all is processed. Raises Wrong if anything was refused or lost."""
    ingress, _, lookup = (service.url.rpartition(":")[2] for service in services)
    duration, seed = str(seconds), str(int(rate * seconds))
    async with (
        _started(folder / f"send-{seed}", "send", ingress, str(rate - PROBES), duration, seed) as sender,
        _started(folder / f"probe-{seed}", "probe", ingress, lookup, str(PROBES), duration, seed) as prober,
    ):
        for child in (sender, prober):
            await child.ready()
        for child in (sender, prober):
            child.begin()
        sent, probed = await sender.found(Sent, seconds), await prober.found(Probed, seconds)
    if sent.statuses.keys() != {200}:
        raise Wrong(f"{rate:,} events/s: posts were answered {sent.statuses}")
    if probed.lost or len(probed.waited) != round(PROBES * seconds):
        raise Wrong(f"{rate:,} events/s: {probed.lost} of {round(PROBES * seconds)} bounces did not suppress")
    await system.caught_up(_LEFT)
    return figures_of(sent, probed, rate)


def figures_of(sent: Sent, probed: Probed, rate: float) -> Figures:
    """What is told. The rate is what was really answered, probes included; if it is too low, there is no latency.

    A sender waits for a free connection, so a system that is behind is posted less to.
    """
    reached = sent.statuses[200] / sent.seconds + PROBES
    if reached < REACHED * rate:
        return {"events/s": reached}
    waited = sorted(probed.waited)
    return {"p50 ms": waited[len(waited) // 2], "p99 ms": waited[int(len(waited) * 0.99)], "events/s": reached}


@asynccontextmanager
async def _started(log: Path, *arguments: str) -> AsyncIterator[Child]:
    argv = [sys.executable, "-m", "bench.load", *arguments]
    process = processes.start(argv, env={"PATH": os.environ["PATH"]}, output=log)
    try:
        yield Child(process, log)
    finally:
        processes.stop(process, 5)


if __name__ == "__main__":
    alone.run(measure, __doc__, candidates=[CANDIDATE])
