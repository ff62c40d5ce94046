"""A changelog that loses what a copy of the state knows is noticed, and the copy is written back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka.partitioner import DefaultPartitioner

from console.local_kafka import LocalKafka
from pipeline import incidents
from pipeline.settings import Settings
from tests.broken_log import batches, cut
from tests.e2e.postlog import postlog
from tests.e2e.system import SESSION_SECONDS, Service, System, delivery, running, until
from tests.e2e.test_lookup import recreate
from tests.e2e.test_lost_records import fragile, stopped
from tests.e2e.test_replay import environment

__all__ = ["fragile"]

LANE = 3


def addresses(count: int, *, partition: int | None = None) -> list[str]:
    """Addresses, all of one partition if it is given."""
    everything, choose = list(range(12)), DefaultPartitioner()
    found = (f"p{number}@example.com" for number in range(100_000))
    fitting = (email for email in found if partition in (None, choose(email.encode(), everything, everything)))
    return [next(fitting) for _ in range(count)]


async def complain(system: System, ingress: Service, emails: Sequence[str]) -> None:
    """One transaction each, nearly: sent one after the other."""
    for email in emails:
        await system.deliver(ingress, [delivery(f"c-{email}", "complained", email)], at_once=1)
        await system.caught_up()


async def answer(system: System, lookup: Service, email: str) -> tuple[int, Any]:
    async with system.http.get(f"{lookup.url}/suppressions/{email}") as found:
        return found.status, (await found.json()).get("suppressed")


async def state(system: System, processor: Service, command: str, *args: str) -> dict[str, Any]:
    """What `postlog state` reports once the group is empty."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": system.settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": system.settings.topic_prefix,
        "STATE_DIR": str(processor.state),
    }
    line = ["state", command, "--json", "--data", str(processor.state / "data"), *args]
    done = await asyncio.to_thread(postlog, *line, "--wait", str(3 * SESSION_SECONDS), env=env)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def lost(system: System, processor: Service) -> None:
    """Start a processor again, as a supervisor does, until it says that its copy knows more; it ends with 1."""

    async def said() -> bool:
        if processor.process.poll() is not None:
            if "postlog state write-back" in processor.said():
                return True
            processor.restart()
        return False

    await until(said, "the processor stops and names the cure")
    assert processor.process.wait() == 1
    told = [incidents.decode(record.value) for record in await system.records(system.topics.incidents)]
    assert {incident.subject for incident in told} == {"records_lost"}


async def refuses(system: System, lookup: Service, emails: Sequence[str]) -> None:
    """Wait until a lookup says what is wrong; nothing is answered meanwhile."""

    async def says() -> bool:
        try:
            async with system.http.get(f"{lookup.url}/health/ready") as found:
                return "write-back" in await found.text()
        except aiohttp.ClientError:
            return False  # it is starting

    await until(says, "the lookup names the cure")
    for email in emails:
        assert await answer(system, lookup, email) == (503, None)


async def knows(system: System, lookup: Service, emails: Sequence[str]) -> None:
    """Wait until a lookup answers again, and rightly."""
    await system.ready(lookup)
    for email in emails:
        assert await answer(system, lookup, email) == (200, True)


async def test_the_second_half_of_a_list_that_is_cut_off_is_written_back(
    own_kafka: LocalKafka, fragile: Settings, tmp_path: Path
) -> None:
    emails = addresses(8, partition=LANE)
    async with running(fragile, tmp_path) as system:
        ingress, processor, lookup = system.start("ingress"), system.start("processor"), system.start("lookup")
        await system.ready(ingress, processor, lookup)
        await complain(system, ingress, emails)
        sound = await system.suppressed()
        assert sound == set(emails)
        assert (processor.stop(), lookup.stop()) == (0, 0)
        listed = system.topics.suppressions.name
        with stopped(own_kafka) as data:
            found = batches(data / f"{listed}-{LANE}")
            # The end of a transaction goes, and what it holds stays: nobody can read that any more.
            half = next(n for n in range(len(found) // 2, 0, -1) if found[-n].control)
            cut(data, listed, LANE, half)
        lookup.restart()
        await refuses(system, lookup, emails)
        processor.restart()
        await lost(system, processor)
        assert await system.suppressed() < sound

        looked = await state(system, processor, "write-back", "--dry-run")
        assert (looked["done"], [copy["partition"] for copy in looked["copies"]]) == (False, [LANE])
        assert looked["total"]["suppressed"] == len(sound - await system.suppressed())
        done = await state(system, processor, "write-back", "--yes")
        assert (done["done"], done["total"]) == (True, looked["total"])
        assert await system.suppressed() == sound
        processor.restart()
        await system.ready(processor)
        await knows(system, lookup, emails)
        assert processor.stop() == 0
        assert not (await state(system, processor, "write-back", "--yes"))["copies"]


async def test_a_list_whose_topic_is_deleted_under_everybody_comes_back(system: System) -> None:
    emails = addresses(20)
    ingress, processor, lookup = system.start("ingress"), system.start("processor"), system.start("lookup")
    await system.ready(ingress, processor, lookup)
    await system.deliver(ingress, [delivery(f"c-{email}", "complained", email) for email in emails])
    await system.caught_up()
    await recreate(system.settings)
    await refuses(system, lookup, emails[:3])
    await system.deliver(ingress, [delivery("again", "bounced.hard", emails[0])])
    await lost(system, processor)
    done = await state(system, processor, "write-back", "--yes")
    assert done["total"]["suppressed"] == len(emails)
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    assert await system.suppressed() == set(emails)
    await knows(system, lookup, emails)


async def test_a_copy_that_is_given_up_leaves_what_the_events_tell(system: System) -> None:
    emails = addresses(5)
    ingress, processor, lookup = system.start("ingress"), system.start("processor"), system.start("lookup")
    await system.ready(ingress, processor, lookup)
    await system.deliver(ingress, [delivery(f"c-{email}", "complained", email) for email in emails])
    await system.caught_up()
    assert (processor.stop(), lookup.stop()) == (0, 0)
    await recreate(system.settings)
    processor.restart()
    await lost(system, processor)
    done = await state(system, processor, "discard", "--yes")
    assert (done["done"], done["total"]["suppressed"]) == (True, len(emails))
    assert await system.suppressed() == set()
    rebuilt = await asyncio.to_thread(
        postlog, "replay", "--rebuild", "--yes", "--data", str(processor.state / "data"), env=environment(system)
    )
    assert rebuilt.returncode == 0, rebuilt.stderr
    processor.restart()
    lookup.restart()
    await system.ready(processor)
    assert await system.suppressed() == set(emails)
    await knows(system, lookup, emails)
