"""Topics of a measurement's own, as topics.yaml says, which are gone afterwards: they may be large."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.fill import forget
from console import processes
from pipeline import kafka
from pipeline.settings import Settings


@asynccontextmanager
async def created(bootstrap: str, name: str) -> AsyncIterator[Settings]:
    """Settings whose topics are new; name is what they begin with. Clients of theirs have to end first."""
    settings = Settings(kafka_bootstrap_servers=bootstrap, topic_prefix=f"{name}{processes.free_port()}.")
    await kafka.apply(settings)
    try:
        yield settings
    finally:
        await forget(settings)
