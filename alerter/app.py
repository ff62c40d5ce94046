"""Runs the alerter: what is read and told is in loop.py and watch.py.

A shell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from alerter import channels, group, services
from alerter.continuity import Continuity, KafkaLog
from alerter.grouping import Grouping, Policy
from alerter.loop import Alerter
from alerter.watch import Watch
from pipeline import access, kafka, service
from pipeline.settings import Settings


async def main(settings: Settings) -> None:
    """Run the alerter until SIGTERM or SIGINT. Raises ConfigError, TopicsMismatch, KafkaUnavailable."""
    stop = await service.stop_requested()
    services.from_settings(settings)  # A wrong URL is refused at once, also while Kafka is away.
    allowed = access.of(settings, settings.alerter_host, "ALERTER_HOST")
    topics = await service.unless_stopped(stop, kafka.require_topics(settings))
    cluster = await service.unless_stopped(stop, kafka.cluster_id(settings)) if topics else None
    if topics is None or cluster is None:
        return
    to = channels.from_settings(settings, f"{cluster}/{topics.alerts.name}")
    name = kafka.group_of(settings, "alerter")
    consumer = group.consumer(settings, name)
    grouping = Grouping(Policy(settings.alert_digest_seconds, settings.alert_despam_seconds))
    clock = _steady_clock()
    watch = Watch(
        settings,
        topics,
        to,
        grouping,
        leads=lambda: alerter.leads,
        begin_again=lambda: alerter.begin_again(),
        clock=clock,
    )
    continuity = Continuity(KafkaLog(settings, name, consumer))
    alerter = Alerter(consumer, grouping, to, clock, watch.note, continuity, name)
    app = web.Application()
    service.add_health_routes(app, allowed, live=alerter.live, ready=alerter.ready)
    runner = await service.serve(app, settings.alerter_host, settings.alerter_port, service="alerter")
    try:
        await consumer.start()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch.run())
            await service.unless_stopped(stop, watch.caught_up.wait())
            await alerter.run(topics.dead_letters, stop)
            watching.cancel()
    finally:
        await kafka.let_go(consumer)
        await runner.cleanup()


def _steady_clock() -> Callable[[], float]:
    """Seconds since the epoch that never go back, also when somebody sets the machine's clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
