"""What does it cost to have everything running while nothing happens?

Every service of `postlog up` is started and ready, and nobody posts anything; CPU time and memory of all of them
together, and of the Kafka beside them.

By itself: `python -m bench.idle --quick --rounds 1`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import alone, own_topics
from bench.results import Figures
from bench.stand import Stand, Wrong
from tests.e2e.system import running

SECTION, CASE, CANDIDATE = "idle", "no events", "postlog"
SERVICES = ("ingress", "processor", "alerter", "lookup")
#: Seconds that are measured, after those in which what has started comes to rest.
SECONDS, QUICK_SECONDS = 20.0, 10.0
REST = 5.0


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds since their start, and bytes of memory, of some processes."""

    cpu: float
    memory: int


async def measure(stand: Stand) -> None:
    """Start all, wait, and see what was used; once per round. Raises Wrong if something is not ready at the end."""
    if not stand.wants(CANDIDATE):
        return
    seconds = QUICK_SECONDS if stand.quick else SECONDS
    for number in range(stand.rounds):
        with tempfile.TemporaryDirectory(prefix="idle-", dir=stand.folder) as name:
            stand.add(SECTION, CASE, CANDIDATE, number, await _round(stand, Path(name), seconds))


async def _round(stand: Stand, folder: Path, seconds: float) -> Figures:
    async with own_topics.created(stand.bootstrap, "idle") as settings, running(settings, folder) as system:
        services = [system.start(name) for name in SERVICES]
        await system.ready(*services)
        groups = {"": [service.process.pid for service in services], "broker ": broker(stand.bootstrap)}
        await asyncio.sleep(REST)
        begun, before = time.perf_counter(), {name: used(pids) for name, pids in groups.items() if pids}
        await asyncio.sleep(seconds)
        passed, after = time.perf_counter() - begun, {name: used(groups[name]) for name in before}
        for service in services:
            if await system.status(f"{service.url}/health/ready") != 200:
                raise Wrong(f"{service.name} is not ready after {seconds:g} s without events")
    told: Figures = {}
    for name, now in after.items():
        share = (now.cpu - before[name].cpu) / passed * 100
        told |= {f"{name}%" if name else "% of a core": share, f"{name}MB": now.memory / 2**20}
    return told


def used(pids: Sequence[int]) -> Used:
    """What these and all below them have used; memory that several share counts for each."""
    parents = [psutil.Process(pid) for pid in pids]
    every = [one for parent in parents for one in (parent, *parent.children(recursive=True))]
    return Used(sum(sum(one.cpu_times()[:2]) for one in every), sum(one.memory_info().rss for one in every))


def broker(bootstrap: str) -> list[int]:
    """The process of ours that listens there; none if the Kafka is somebody else's."""
    port = int(bootstrap.rpartition(":")[2])
    return [child.pid for child in psutil.Process().children(recursive=True) if _listens(child, port)]


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


if __name__ == "__main__":
    alone.run(measure, __doc__, candidates=[CANDIDATE])
