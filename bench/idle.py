"""What does all of it cost while nothing comes in?

Ingress, processor, alerter and lookup are started and ready, and nobody sends anything. Only the broker goes on with
whatever it does by itself.
"""

from __future__ import annotations

import asyncio
import time

import psutil

from bench.meter import Meter
from bench.stand import Stand, Wrong
from console import processes
from pipeline import kafka
from pipeline.settings import Settings
from tests.e2e.system import running

SECTION, CANDIDATE, CASE = "idle", "postlog", "all services"
SERVICES = ("ingress", "processor", "alerter", "lookup")
#: Seconds after the start in which things settle, and that are measured; the latter also in a quick run.
SETTLING, SECONDS, QUICK_SECONDS = 10.0, 20.0, 10.0


async def measure(stand: Stand) -> None:
    """Start everything, and watch it do nothing."""
    if not stand.wants(CANDIDATE):
        return
    settings = Settings(kafka_bootstrap_servers=stand.bootstrap, topic_prefix=f"idle{processes.free_port()}.")
    await kafka.apply(settings)
    async with running(settings, stand.folder / "idle") as system:
        services = [system.start(name) for name in SERVICES]
        await system.ready(*services)
        await asyncio.sleep(SETTLING)
        meters = [Meter(service.process.pid) for service in services]
        broker = Meter(_broker(stand.bootstrap))
        for number in range(stand.rounds):
            before, broker_before, began = sum(meter.look() for meter in meters), broker.look(), time.monotonic()
            await asyncio.sleep(QUICK_SECONDS if stand.quick else SECONDS)
            seconds = time.monotonic() - began
            figures = {
                "% of a core": (sum(meter.look() for meter in meters) - before) / seconds * 100,
                "MB": sum(meter.peak for meter in meters) / 2**20,
                "broker %": (broker.look() - broker_before) / seconds * 100,
                "broker MB": broker.peak / 2**20,
            }
            stand.add(SECTION, CASE, CANDIDATE, number, figures)
        if any(service.process.poll() is not None for service in services):
            raise Wrong("a service ended although nothing happened")


def _broker(bootstrap: str) -> int:
    """The process that listens there."""
    port = int(bootstrap.rpartition(":")[2])
    for child in psutil.Process().children(recursive=True):
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in child.net_connections("tcp")):
            return child.pid
    raise Wrong(f"none of our processes listens on port {port}")
