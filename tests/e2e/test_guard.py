"""What is no event's fault makes no dead letters: a handler that is down, a topic full of something else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from pipeline import incidents, kafka
from pipeline.incidents import Incident
from tests.e2e.system import Service, System, delivery, until
from tests.e2e.test_handlers import Calls

OPENED = "postlog_processor_circuit_opened_timestamp_seconds"


@pytest.fixture
def calls(system: System, tmp_path: Path) -> Calls:
    return Calls(system, tmp_path / "plugged")


async def noted(system: System) -> list[Incident]:
    """The incidents that last, of all lanes."""
    latest = {(r.partition, r.key): r.value for r in await system.records(system.topics.incidents)}
    return [incidents.decode(value) for value in latest.values() if value is not None]


async def test_an_outage_of_a_handler_makes_no_dead_letter_and_survives_the_processor(calls: Calls) -> None:
    system = calls.system
    (calls.folder / "down").touch()
    ingress, processor = system.start("ingress"), calls.start()
    await system.ready(ingress, processor)

    async def is_open() -> bool:
        return any((await system.metric(processor, OPENED)).values())

    first = [delivery(f"a{n}", "unsubscribed", f"p{n}@x.io") for n in range(30)]
    await system.deliver(ingress, first)
    await until(is_open, "the circuit is open")
    # Events go on to be applied, and what nobody could be told of waits.
    await system.deliver(ingress, [delivery(f"b{n}", "opened", f"p{n}@x.io") for n in range(30)], at_once=1)
    await system.caught_up()
    assert await system.suppressed() == {f"p{n}@x.io" for n in range(30)}
    assert await calls.owed() == 60
    await until(lambda: noted(system), "the outage is noted")
    assert {i.key for i in await noted(system)} == {b"circuit_open/crm"}
    assert all("the other side is down" in i.reason for i in await noted(system))

    processor.kill()
    made = len(calls.ids("begun"))
    processor.restart()
    await system.ready(processor)
    await until(is_open, "whoever comes next knows of the outage")
    await calls.until(lambda: len(calls.ids("begun")) >= made + 3, "it is probed")

    (calls.folder / "down").unlink()
    await calls.until(lambda: len(calls.ids("done")) >= 60, "everything is called for")
    for n in range(30):
        assert calls.ids("done", f"p{n}@x.io") == [f"a{n}", f"b{n}"]

    async def over() -> bool:
        return not await is_open() and not await noted(system) and not await calls.owed()

    await until(over, "its end is noted, and that nothing is owed")
    assert await calls.letters() == []


async def garbage(system: System, count: int) -> None:
    """Records on the events topic that are none of ours."""
    producer = AIOKafkaProducer(**kafka.client_options(system.settings))
    await producer.start()
    try:
        sent = [
            await producer.send(system.topics.events.name, b'{"order": %d}' % n, key=b"%d" % n) for n in range(count)
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def ended(processor: Service) -> None:
    assert processor.process.wait(30) == 1
    assert "records would become dead letters" in processor.said()
    assert "PROCESSOR_MAX_REJECTED_SHARE=1" in processor.said()


async def test_a_topic_full_of_something_else_stops_the_processor_and_not_only_once(system: System) -> None:
    await garbage(system, 3_000)
    processor = system.start("processor")
    ended(processor)
    (incident,) = {i.key: i for i in await noted(system)}.values()
    assert (incident.kind, incident.subject) == ("processor_stopped", "rejections")
    before = len(await system.records(system.topics.dead_letters))
    assert before < 1_000
    for _ in range(2):
        processor.restart()
        ended(processor)
    # Each start may let a few through before it is sure; a supervisor must not empty the topic that way.
    assert len(await system.records(system.topics.dead_letters)) < before + 200
    assert await system.lag() >= 3_000 - before - 200

    accepting = system.start("processor", PROCESSOR_MAX_REJECTED_SHARE="1")
    await system.ready(accepting)
    await system.caught_up()
    assert len(await system.records(system.topics.dead_letters)) == 3_000

    async def over() -> bool:
        return not await noted(system)

    await until(over, "it is noted that it is over")


async def test_a_few_bad_records_stop_nobody(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await garbage(system, 50)
    await system.deliver(ingress, [delivery("e1", "unsubscribed", "ann@x.io")])
    await system.caught_up()
    assert await system.suppressed() == {"ann@x.io"}
    assert len(await system.records(system.topics.dead_letters)) == 50
    assert processor.process.poll() is None


async def test_a_type_that_nobody_knows_stops_nobody_and_is_noted(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    verified = [{"id": f"v{n}", "type": "domain.verified", "data": {"domain": "example.com"}} for n in range(1_500)]
    await system.deliver(ingress, [json.dumps(verified).encode()])
    await system.deliver(ingress, [delivery("e1", "complained", "ann@x.io")])
    await system.caught_up()
    assert await system.suppressed() == {"ann@x.io"}
    assert await system.records(system.topics.dead_letters) == []
    noticed = {(incident.kind, incident.subject) for incident in await noted(system)}
    assert noticed == {("unknown_type", "nexuspromail domain.verified")}
    counted = await system.metric(processor, "postlog_processor_unknown_types_total")
    assert sum(counted.values()) == 1_500
