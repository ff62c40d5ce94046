"""After all is checked: the events topic is deleted and made anew while everything runs, and then sent deliveries.

That takes along what was on it, so the checker cannot look at it with the rest. What has to hold is that people are
told, and that the checker finds nothing wrong with what came after, once the cure that the message names is done.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import aiohttp

from pipeline import incidents, kafka
from tests.chaos import checker
from tests.chaos.checker import Found, Verdict
from tests.chaos.plan import PROCESSORS
from tests.chaos.senders import Senders
from tests.e2e.postlog import postlog
from tests.e2e.system import Service, System, until

#: Seconds for which events are sent to the new topic, and how many in one.
SECONDS, RATE = 3.0, 30.0
#: Seconds after which the processors must have gone on: one broker of three is gone for good by then.
SETTLE = 180.0
#: No id and no address is one of before.
SEEDS, FIRST = 1_000_000, 100


async def remade(
    system: System,
    services: Mapping[str, Service],
    seed: int,
    supervised: Callable[[], AbstractAsyncContextManager[None]],
    look: Callable[[Senders], Coroutine[Any, Any, Found]],
) -> Verdict:
    """Delete the topic, make it anew, send to it, do what is to be done; what the checker says of what was sent.

    supervised  what starts services again, for as long as its context lasts
    look        reads what all services left of these senders' events

    Raises AssertionError saying what did not come about.
    """
    processors = [services[name] for name in PROCESSORS]
    senders = Senders(services["ingress"].url, seed + SEEDS, RATE, workers=4, addresses=5, first=FIRST)
    async with supervised():
        async with kafka.admin(system.settings) as client:
            await client.delete_topics([system.topics.events.name])
        await until(lambda: _none_ready(system, processors), "no processor says that it is ready")
        await kafka.apply(system.settings)
        enough = asyncio.Event()
        sending = asyncio.create_task(senders.run(enough))
        await asyncio.sleep(SECONDS)
        enough.set()
        await sending
        await until(lambda: _told(system), "somebody is told that the topic was made anew")
    for processor in processors:
        processor.send(signal.SIGTERM)
    await until(lambda: _moved(system), "postlog replay --after-loss has moved the group")
    for processor in processors:
        processor.restart()
    # While partitions move a processor may end itself, to begin again at the committed offset.
    async with supervised():
        await until(lambda: _all_ready(system, processors), "every processor says that it is ready", SETTLE)
        await system.caught_up()
        await until(lambda: _nothing_owed(system, processors), "every call is made", SETTLE)
    return checker.check(_since(await look(senders), senders))


def _since(found: Found, senders: Senders) -> Found:
    """Only what follows from the events that are on the new topic."""
    events = [json.loads(value) for *_, value in found.events]
    digests = {checker.digest(event) for event in events}
    identities = {event["id"] for event in events}
    emails = {email.encode() for email in senders.emails()}
    return replace(
        found,
        markers=[(key, marker) for key, marker in found.markers if key[4:] in digests],
        listed=[(email, entry) for email, entry in found.listed if email in emails],
        letters=[letter for letter in found.letters if letter[0] in identities],
        calls=[identity for identity in found.calls if identity in identities],
        refused=frozenset(),
    )


async def _none_ready(system: System, processors: Collection[Service]) -> bool:
    return 200 not in [await system.status(f"{each.url}/health/ready") for each in processors]


async def _all_ready(system: System, processors: Collection[Service]) -> bool:
    return {200} == {await system.status(f"{each.url}/health/ready") for each in processors}


async def _nothing_owed(system: System, processors: Collection[Service]) -> bool:
    try:
        owed = [await system.metric(each, "postlog_processor_calls_owed") for each in processors]
    except (aiohttp.ClientError, OSError):
        return False
    return not sum(sum(of_lanes.values()) for of_lanes in owed)


async def _told(system: System) -> bool:
    noted = [record.value for record in await system.records(system.topics.incidents) if record.value]
    return any("anew" in incidents.decode(value).reason for value in noted)


async def _moved(system: System) -> bool:
    env = {"KAFKA_BOOTSTRAP_SERVERS": system.settings.kafka_bootstrap_servers}
    env |= {"TOPIC_REPLICATION": "3", "TOPIC_MIN_INSYNC_REPLICAS": "2"}
    done = await asyncio.to_thread(postlog, "replay", "--after-loss", "--yes", env=env)
    if done.returncode:
        assert "is in use" in done.stderr, done.stderr
    return done.returncode == 0
