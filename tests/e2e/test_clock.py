"""Machines whose clocks are two hours from the broker's: everything goes on, and what does not says why."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline import kafka, topic_settings
from pipeline.settings import Settings
from pipeline.topics import TIMES
from tests import clock
from tests.e2e.postlog import postlog
from tests.e2e.system import PATIENCE, Service, System, delivery, until
from tests.receiver import receiver

#: More than Kafka lets a record be ahead by, an hour; in seconds.
STEP = 7_200.0


def start(system: System, folder: Path, name: str, seconds: float, **env: str) -> Service:
    """A service with its clock so many seconds from the real one."""
    clock.step(folder / "clock", seconds)
    return system.start(name, module=("tests.chaos.launch", name), **clock.environment(folder / "clock"), **env)


async def suppressed(system: System, lookup: Service, email: str) -> bool:
    async with system.http.get(f"{lookup.url}/suppressions/{email}") as answer:
        return answer.status == 200 and bool((await answer.json())["suppressed"])


@pytest.mark.parametrize("seconds", [STEP, -STEP], ids=["ahead", "behind"])
async def test_services_with_wrong_clocks_take_apply_park_tell_and_answer(
    system: System, tmp_path: Path, seconds: float
) -> None:
    began = time.time()
    async with receiver() as people:
        people.answer.set()
        ingress, processor, lookup = (
            start(system, tmp_path, name, seconds) for name in ("ingress", "processor", "lookup")
        )
        alerter = start(system, tmp_path, "alerter", seconds, ALERT_URLS=people.url)
        await system.ready(ingress, processor, alerter, lookup)
        # A dead letter of the ingress, one of the processor, and an entry of the list.
        assert await system.post(ingress, b"[1]") == 200
        assert await system.post(ingress, delivery("nobody", "complained", "")) == 200
        assert await system.post(ingress, delivery("e1", "bounced.hard", "ann@example.com")) == 200
        await system.caught_up()
        await until(lambda: suppressed(system, lookup, "ann@example.com"), "lookup has the address")
        assert await people.notification()
        await until(lambda: system.records(system.topics.alerts), "it is noted that people were told")
    assert [service.process.poll() for service in system.services] == [None] * 4
    topics = system.topics
    for topic, least in ((topics.events, 2), (topics.dead_letters, 2), (topics.suppressions, 1), (topics.seen, 1)):
        times = [record.timestamp / 1000 for record in await system.records(topic)]
        assert len(times) >= least
        # By the broker's clock, which is the test's.
        assert all(began - 60 < at < time.time() + 60 for at in times)


async def test_a_time_that_the_broker_refuses_names_the_clock_and_a_cure_that_works(
    system: System, settings: Settings, tmp_path: Path
) -> None:
    ingress = start(system, tmp_path, "ingress", STEP)
    await system.ready(ingress)
    letters = system.topics.dead_letters.name
    # Somebody gives the topic back to the clocks of those who write, under a running ingress.
    async with kafka.admin(settings) as client:
        await topic_settings.put(client, {letters: {TIMES: "CreateTime"}})

    async def differs() -> bool:
        return [each.what for each in await kafka.check(settings)] == [TIMES]

    await until(differs, "the brokers show it")

    assert await system.post(ingress, b"[1]") == 503
    assert ingress.process.wait(PATIENCE) == 2
    last = ingress.said().splitlines()[-1]
    assert "this machine's clock" in last
    assert "postlog topics apply" in last
    ingress.restart()
    assert ingress.process.wait(PATIENCE) == 2
    assert f"{letters}: {TIMES} is CreateTime, topics.yaml says LogAppendTime. postlog topics apply" in ingress.said()

    env = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "TOPIC_PREFIX": settings.topic_prefix}
    done = postlog("topics", "apply", "--yes", env=env)
    assert done.returncode == 0, done.stderr
    ingress.restart()
    await system.ready(ingress)
    assert await system.post(ingress, b"[1]") == 200
