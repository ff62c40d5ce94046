"""The processor: a Faust app whose one agent feeds the lanes.

A shell. Faust brings the consumer group; lanes bring state, exactly once and the offsets. See docs/decisions/0003.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from aiokafka.errors import KafkaError
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from pipeline import access, kafka, private, security, service, tombstones, topic_ids
from pipeline.errors import LanesFailed
from pipeline.settings import Settings
from pipeline.topics import Topic, Topics
from processor import plugins
from processor.lanes import Lanes
from processor.site import Site, needed
from processor.transport import BatchApp, LaneAssignor, Untouched, credentials
from processor.watch import Watch

log = structlog.get_logger(__name__)

#: Bytes and records of one fetch: larger ones are faster until they hold up the other partitions.
FETCH_BYTES = 4 * 1024 * 1024
POLL_RECORDS = 8_000
#: Objects that are made before the garbage collector looks for cycles among them. Tens of thousands of records in
#: memory are normal and hold none: with its defaults it walked all of them again and again, a fifth of the time.
GC_OBJECTS = 200_000
#: At the latest a member learns with its next heartbeat that the group rebalances, and all others wait for it.
HEARTBEAT_SECONDS = 0.5
#: How long leaving the group may take at the end, in seconds; the promise does not depend on it.
STOP_TIMEOUT = 5.0
#: How long the transactions in hand may take at the end, in seconds; a few ms do, unless Kafka is away.
CLOSE_TIMEOUT = 10.0


async def main(settings: Settings) -> None:
    """Run until SIGTERM, SIGINT, or the first failure, which is raised."""
    handlers = plugins.load(settings)
    allowed = access.of(settings, settings.processor_host, "PROCESSOR_HOST")
    state = private.folder(Path(settings.state_dir), "STATE_DIR")
    stop = await service.stop_requested()
    found = await service.unless_stopped(stop, _look_around(settings))
    if found is None:
        return
    topics, cluster, kept_for, ids = found
    group = kafka.group_of(settings, "processor")
    folder = private.folder(state / cluster / group, "STATE_DIR")
    private.narrow(state / cluster)
    site = Site(
        settings=settings,
        topics=topics,
        folder=folder,
        group=group,
        handlers=handlers,
        tombstones=kept_for,
        topic_ids=ids,
    )
    lanes = Lanes(site)
    service.collect_seldom(GC_OBJECTS)
    app = build(site, lanes)
    async with Watch(site, lanes, app) as watch:
        web_app = web.Application()
        service.add_health_routes(web_app, allowed, live=watch.live, ready=watch.ready)
        runner = await service.serve(web_app, settings.processor_host, settings.processor_port, service="processor")
        try:
            await _run(app, lanes, watch, stop)
        finally:
            await runner.cleanup()


async def _look_around(settings: Settings) -> tuple[Topics, str, dict[str, int], dict[str, str]]:
    topics = await kafka.require_topics(settings)
    await kafka.require_group(settings, "processor")
    ids = await topic_ids.ask(settings, needed(topics))
    return topics, await kafka.cluster_id(settings), await tombstones.last(settings, topics), ids


def build(site: Site, lanes: Lanes) -> BatchApp:
    """The Faust app. Everything it would create, serve or commit by itself is off."""
    settings = site.settings
    app = BatchApp(
        site.group,
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_client_id=site.group,
        broker_credentials=credentials(security.options(settings)),
        broker_session_timeout=settings.processor_session_timeout_seconds,
        broker_heartbeat_interval=min(settings.processor_session_timeout_seconds / 3.5, HEARTBEAT_SECONDS),
        broker_rebalance_timeout=settings.processor_session_timeout_seconds * 1.5,
        # Longer than a join of the group takes; a dead connection is noticed after that.
        broker_request_timeout=settings.processor_session_timeout_seconds * 1.5 + 5.0,
        broker_max_poll_records=POLL_RECORDS,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=topic_ids.LOOK_MS,
        # Who keeps a copy of a lane's state gets the lane before others do.
        table_standby_replicas=settings.processor_standby_lanes,
        stream_wait_empty=False,  # the default waits without limit at every rebalance
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        datadir=str(site.folder / "faust"),
        autodiscover=False,
        PartitionAssignor=LaneAssignor,
    )
    app.lanes = lanes
    app.partitions = site.topics.events.partitions
    source = app.topic(site.topics.events.name, schema=Untouched(key_serializer="raw", value_serializer="raw"))

    async def feed(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            # Fetched in another generation of the group: its owner has it, or we fetch it again.
            if message.generation_id == app.consumer_generation_id:
                lanes.deliver(message.partition, message.value)

    app.agent(source, name="feed", supervisor_strategy=CrashingSupervisor)(feed)

    async def assigned(_: Any, assigned: set[TP], **__: Any) -> None:
        numbers = ours(assigned, site.topics.events)
        log.info("assigned", partitions=numbers)
        lanes.assign(numbers, ours(app.assignor.assigned_standbys(), site.topics.events))

    async def revoked(_: Any, revoked: set[TP], **__: Any) -> None:
        log.info("rebalancing", partitions=sorted(tp.partition for tp in revoked))
        lanes.suspend()

    signals: Any = app
    signals.on_partitions_assigned.connect(assigned)
    signals.on_partitions_revoked.connect(revoked)
    return app


def ours(shared_out: Iterable[TP], events: Topic) -> list[int]:
    """The lanes among partitions that a member of the group was given.

    A member of a former release gives away partitions that somebody added, too. They have no lane: no key of ours
    belongs there, and no topic beside the events has them.
    """
    return sorted(tp.partition for tp in shared_out if tp.topic == events.name and tp.partition < events.partitions)


def _raise(failure: asyncio.Future[None]) -> None:
    """Raise why lanes or watch failed; Kafka's errors are no bugs of ours."""
    try:
        failure.result()
    except KafkaError as error:
        raise LanesFailed(f"Kafka: {error!r}") from error


async def _run(app: BatchApp, lanes: Lanes, watch: Watch, stop: asyncio.Event) -> None:
    """Start the app and wait for a reason to end; then finish the transactions in hand and leave the group."""
    asked = asyncio.create_task(stop.wait())
    # Starting may take for ever, if the group cannot be joined.
    running = asyncio.create_task(_start_and_run(app))
    try:
        reasons: list[asyncio.Future[Any]] = [asked, running, lanes.failure, watch.failure]
        await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        for failure in (lanes.failure, watch.failure):
            if failure.done():
                _raise(failure)
        if not asked.done():
            reason = app.crash_reason or running.exception()
            raise LanesFailed(f"the consumer stopped: {reason!r}") from reason
        log.info("stopping: finishing the transactions in hand")
        await _bounded(lanes.close(), CLOSE_TIMEOUT, "a transaction did not finish; the next owner repairs it")
    finally:
        asked.cancel()
        running.cancel()
        await _bounded(
            app.stop(), STOP_TIMEOUT, "the group was not left in order; it will wait for our session to end"
        )


async def _start_and_run(app: BatchApp) -> None:
    await app.start()
    await app.wait_until_stopped()


async def _bounded(work: Coroutine[Any, Any, Any], seconds: float, otherwise: str) -> None:
    """Wait for work that may hang while Kafka is away; nothing of the promise depends on it."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        log.warning(otherwise, waited=seconds)
        task.cancel()
    elif error := task.exception():
        log.warning(otherwise, error=repr(error))
