"""`python -m lookup`: the suppression list as a read API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from aiokafka import AIOKafkaConsumer

from lookup import api
from lookup.follower import Follower
from lookup.store import Store, folder
from pipeline import kafka, service
from pipeline.settings import Settings
from pipeline.topics import Topics

log = structlog.get_logger(__name__)

#: Seconds that answers under way may take on SIGTERM; a listing that takes longer ends without its last line.
DRAIN_SECONDS = 5.0


async def main(settings: Settings) -> None:
    """Work until asked to stop, then leave in order."""
    stop = await service.stop_requested()
    working = asyncio.create_task(work(settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    working.cancel()  # does nothing to work that has failed: its error comes out below
    try:
        await working
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    log.info("stopped")


async def work(settings: Settings) -> None:
    """Serve and follow until cancelled; what was opened last is closed first."""
    topics = await kafka.require_topics(settings)
    topic = topics.suppressions
    tombstones_last = await tombstone_life(settings, topics)
    path = folder(settings.state_dir, await kafka.cluster_id(settings), topic.name)
    with contextlib.closing(Store(path)) as store:
        follower = Follower(
            lambda: consumer(settings),
            store,
            topic,
            tombstones_last=tombstones_last,
            stall_seconds=settings.lane_stall_seconds,
        )
        runner = await service.serve(
            api.build(store, follower),
            settings.lookup_host,
            settings.lookup_port,
            shutdown_timeout=DRAIN_SECONDS,
        )
        try:
            await follower.run()
        finally:
            await runner.cleanup()


async def tombstone_life(settings: Settings, topics: Topics) -> int:
    """How long the suppressions topic keeps a tombstone at least, in ms."""
    async with kafka.admin(settings) as client:
        live = await kafka.live_topics(client, topics)
    return int(live[topics.suppressions.name].config["delete.retention.ms"])


@contextlib.asynccontextmanager
async def consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group; whoever uses it assigns and seeks. Raises KafkaError if Kafka cannot be reached."""
    client = AIOKafkaConsumer(
        **kafka.client_options(settings),
        isolation_level="read_committed",
        # A position outside the log is for the follower to judge: jumping to either end would lose deletions.
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    try:
        await client.start()
        yield client
    finally:
        await _stop(client)


async def _stop(client: AIOKafkaConsumer) -> None:
    try:
        await client.stop()
    except asyncio.CancelledError:
        # Not ours, as a rule: aiokafka cancels a fetch that waits after an error, lets that out of `stop`, and leaves
        # its connections open, which would try to reach Kafka for ever.
        await client._client.close()
        task = asyncio.current_task()
        if task and task.cancelling():
            raise


if __name__ == "__main__":
    service.run("lookup", main)
