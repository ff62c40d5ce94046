"""The lookup service: follow the list, answer questions about it, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import structlog

from lookup import api, connection
from lookup.follower import Follower
from lookup.store import Store, folder, within
from pipeline import access, kafka, private, service, tombstones
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

#: Objects that are made before the garbage collector looks for cycles among them.
GC_OBJECTS = 50_000
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
    allowed = access.of(settings, settings.lookup_host, "LOOKUP_HOST")
    state = private.folder(Path(settings.state_dir), "STATE_DIR")
    topics = await kafka.require_topics(settings)
    topic = topics.suppressions
    tombstones_last = (await tombstones.last(settings, topics))[topic.name]
    path = private.folder(folder(state, await kafka.cluster_id(settings), topic.name), "STATE_DIR")
    private.narrow(within(state))
    with contextlib.closing(Store(path)) as store:
        follower = Follower(
            lambda: connection.consumer(settings),
            store,
            topic,
            tombstones_last=tombstones_last,
            stall_seconds=settings.lane_stall_seconds,
        )
        runner = await service.serve(
            api.build(store, follower, allowed),
            settings.lookup_host,
            settings.lookup_port,
            service="lookup",
            shutdown_timeout=DRAIN_SECONDS,
        )
        service.collect_seldom(GC_OBJECTS)
        try:
            await follower.run()
        finally:
            await runner.cleanup()
