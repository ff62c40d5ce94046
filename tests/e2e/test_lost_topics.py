"""A topic that is deleted and made anew while all runs is noticed, and what the message says mends it."""

from __future__ import annotations

import asyncio

import pytest

from pipeline import incidents, kafka
from tests.e2e.postlog import postlog
from tests.e2e.system import PATIENCE, Service, System, delivery, until


def bounces(first: int, count: int) -> list[bytes]:
    """Of as many people, so that most partitions have some."""
    return [delivery(f"e{n}", "bounced.hard", f"p{n}@example.com") for n in range(first, first + count)]


async def delete(system: System, name: str) -> None:
    async with kafka.admin(system.settings) as client:
        await client.delete_topics([name])


async def is_ready(system: System, service: Service) -> bool:
    return await system.status(f"{service.url}/health/ready") == 200


async def ended(service: Service) -> int:
    return await asyncio.to_thread(service.process.wait, PATIENCE)


async def test_events_that_were_made_anew_are_noticed_and_what_is_new_is_applied_once(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, bounces(0, 40))
    await system.caught_up()
    before = await system.markers()

    async def refuses() -> bool:
        return not await is_ready(system, processor)

    await delete(system, system.topics.events.name)
    await until(refuses, "the processor says that it is not ready")
    assert await system.status(f"{processor.url}/health/live") == 200  # for a while
    await kafka.apply(system.settings)
    await system.deliver(ingress, bounces(100, 40))
    assert await ended(processor) == 1
    assert "email-events: the topic was deleted and made anew" in processor.said()
    assert "postlog replay --after-loss" in processor.said()
    processor.restart()
    assert await ended(processor) == 1
    assert processor.said().count("the topic was deleted and made anew") == 2
    assert "Kafka forgot" not in processor.said()
    told = [incidents.decode(record.value) for record in await system.records(system.topics.incidents)]
    assert told
    assert all("made anew" in incident.reason for incident in told)

    await until(lambda: moved(system), "the group is empty and moved")
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    added = await system.markers() - before
    assert len(added) == 40
    assert set(added.values()) == {1}
    assert {f"p{n}@example.com" for n in (*range(40), *range(100, 140))} == await system.suppressed()


async def moved(system: System) -> bool:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": system.settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": system.settings.topic_prefix,
    }
    done = await asyncio.to_thread(postlog, "replay", "--after-loss", "--yes", env=env)
    if done.returncode:
        assert "is in use" in done.stderr, done.stderr
    return done.returncode == 0


async def test_dead_letters_that_were_made_anew_stop_nobody_and_new_ones_are_told(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    alerter = system.start("alerter", ALERT_DESPAM_SECONDS="0.1", ALERT_DIGEST_SECONDS="0.1")
    await system.ready(ingress, processor, alerter)
    await system.deliver(ingress, [delivery(f"n{n}", "bounced.hard", None) for n in range(5)])
    await until(lambda: says(alerter, "hard_bounce"), "people are told")
    await delete(system, system.topics.dead_letters.name)
    await kafka.apply(system.settings)
    await until(lambda: says(alerter, "letters that nobody had dealt with are lost"), "the alerter notices")
    await system.deliver(ingress, [delivery(f"m{n}", "complained", None) for n in range(5)])
    await until(lambda: says(alerter, "complaint"), "people are told of letters on the new topic")
    await system.ready(processor, alerter)
    assert {service.process.poll() for service in system.services} == {None}


async def says(service: Service, text: str) -> bool:
    return text in service.said()


@pytest.mark.parametrize("seconds", ["5", "3600"])
async def test_a_session_timeout_that_kafka_does_not_take_is_refused_with_its_name(
    system: System, seconds: str
) -> None:
    processor = system.start("processor", PROCESSOR_SESSION_TIMEOUT_SECONDS=seconds)
    assert await ended(processor) == 2
    assert f"PROCESSOR_SESSION_TIMEOUT_SECONDS is {seconds}, and Kafka does not take that" in processor.said()
    assert "group.min.session.timeout.ms" in processor.said()


async def test_processors_that_share_lanes_out_differently_do_not_wait_for_each_other(system: System) -> None:
    one = system.start("processor")
    await system.ready(one)
    other = system.start("processor", PROCESSOR_STANDBY_LANES="0")
    assert await ended(other) == 2
    assert "PROCESSOR_STANDBY_LANES=0 beside others without" in other.said()
    assert await is_ready(system, one)
