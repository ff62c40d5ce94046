"""From a signed webhook to the suppression list, on a real Kafka, through HTTP and topics alone."""

from __future__ import annotations

import json
import time
import urllib.parse

import pytest

from pipeline import contract, deadletter
from tests.e2e.system import Service, System, delivery, signature, until

TYPES = {
    "delivered": "delivered",
    "deferred": "deferred",
    "opened": "opened",
    "clicked": "clicked",
    "bounced.soft": "soft_bounce",
    "bounced.hard": "hard_bounce",
    "complained": "complaint",
    "unsubscribed": "unsubscribed",
    "subscribed": "subscribed",
    "teleported": "unknown",
}
SUPPRESSING = {"bounced.hard", "complained", "unsubscribed"}


async def lookup_says(system: System, lookup: Service, email: str) -> dict[str, object]:
    async with system.http.get(f"{lookup.url}/suppressions/{urllib.parse.quote(email)}") as answer:
        assert answer.status == 200
        said: dict[str, object] = await answer.json()
        return said


async def test_every_type_goes_from_a_signed_post_to_the_suppression_list(system: System) -> None:
    ingress, processor, lookup = (system.start(name) for name in ("ingress", "processor", "lookup"))
    await system.ready(ingress, processor, lookup)
    sent_at = int(time.time() * 1000)
    for word in TYPES:
        assert await system.post(ingress, delivery(f"e-{word}", word, f" {word}@Example.com")) == 200

    await system.caught_up()
    events = {event["provider_type"]: event for event in await system.events()}
    assert {word: event["type"] for word, event in events.items()} == TYPES
    assert all(event["received_at"] >= sent_at for event in events.values())
    assert await system.suppressed() == {f"{word}@example.com" for word in SUPPRESSING}
    assert len(await system.markers()) == len(TYPES)
    assert await system.records(system.topics.dead_letters) == []

    async def told() -> bool:
        answers = [await lookup_says(system, lookup, f"{word}@EXAMPLE.com") for word in TYPES]
        return {a["email"] for a in answers if a["suppressed"]} == {f"{word}@example.com" for word in SUPPRESSING}

    await until(told, "lookup agrees with the topic")
    counted = await system.metric(processor, "postlog_processor_events_total")
    assert counted['{provider="nexuspromail",type="unknown"}'] == 1


async def test_headers_and_arrival_are_on_the_record(system: System) -> None:
    ingress = system.start("ingress")
    await system.ready(ingress)
    before = int(time.time() * 1000)
    assert await system.post(ingress, delivery("e1", "complained", "A@x.io")) == 200
    (record,) = await system.records(system.topics.events)
    headers = dict(record.headers)
    assert record.key == b"a@x.io"
    assert record.timestamp_type == 1  # the log's own time
    assert before - 1000 <= record.timestamp <= int(time.time() * 1000) + 1000
    assert headers["postlog-type"] == b"complaint"
    assert headers["traceparent"].startswith(b"00-")
    assert contract.decode(record.value).id == "e1"


@pytest.mark.parametrize("sign", ["", "0" * 64, signature(b"something else"), "ÿ"])
async def test_an_unsigned_post_is_401_and_leaves_no_record(system: System, sign: str) -> None:
    ingress = system.start("ingress")
    await system.ready(ingress)
    body = delivery("e1", "complained", "a@x.io")
    async with system.http.post(
        f"{ingress.url}/webhooks/email", data=body, headers={"X-NexusProMail-Signature": sign}
    ) as answer:
        assert (answer.status, await answer.json()) == (401, {"error": "Invalid signature"})
    assert await system.events() == []
    assert await system.records(system.topics.dead_letters) == []


async def test_strange_bodies_are_applied_or_visible_and_never_lost(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    unreadable = {
        "malformed": b"{",
        "no object": b'"text"',
        "empty": b"",
        "NUL": b'{"id":"e"\x00}',
        "email of a wrong type": delivery("e-type", "complained", ["a@x.io"]),
        "not UTF-8": b'{"id":"\xff","type":"complained","data":{"email":"a@x.io"}}',
    }
    nobody = {
        "no email": json.dumps({"id": "e-none", "type": "complained", "data": {}}).encode(),
        "no address": delivery("e-noaddr", "complained", "ann at example.com"),
        "NUL in the address": delivery("e-nul", "complained", "a\0b@x.io"),
    }
    applied = {
        "upper.case@x.io": delivery("e-up", "complained", "UPPER.Case@X.io"),
        "plus+tag@x.io": delivery("e-plus", "complained", "plus+tag@x.io"),
        "jürgen@xn--mller-kva.example": delivery("e-uni", "complained", "Jürgen@Müller.example"),
        "number-as-id@x.io": delivery("x", "complained", "number-as-id@x.io").replace(b'"x"', b"5"),
        "no-id@x.io": delivery(None, "complained", "no-id@x.io"),
        "far-future@x.io": delivery("e-fut", "complained", "far-future@x.io", created_at="9999-01-01T00:00:00Z"),
    }
    applied["in-an-array@x.io"] = b"[%b, 7]" % delivery("e-array", "complained", "in-an-array@x.io")
    for body in [*unreadable.values(), *nobody.values(), *applied.values()]:
        assert await system.post(ingress, body) == 200
    assert await system.post(ingress, b"x" * (2 * 1024 * 1024)) == 413

    await system.caught_up()
    assert await system.suppressed() == set(applied)
    letters = await system.records(system.topics.dead_letters)
    by_stage = {
        stage: sorted(record.value for record in letters if deadletter.read(record).stage == stage)
        for stage in ("ingress", "processor")
    }
    assert by_stage["ingress"] == sorted([*unreadable.values(), b"7"])
    assert len(by_stage["processor"]) == len(nobody)
    assert {deadletter.read(r).error for r in letters} == {
        "pipeline.errors.Unreadable",
        "pipeline.errors.NoRecipient",
    }


async def test_an_undecodable_record_becomes_a_dead_letter_that_names_its_place(system: System) -> None:
    from aiokafka import AIOKafkaProducer

    from pipeline import kafka

    producer = AIOKafkaProducer(**kafka.client_options(system.settings))
    await producer.start()
    topic = system.topics.events.name
    sent = await producer.send_and_wait(
        topic, key=b"k", value=b"not an event", headers=[("theirs", b"1")], partition=3
    )
    await producer.stop()
    await system.ready(system.start("processor"))
    await system.caught_up()
    (record,) = await system.records(system.topics.dead_letters)
    letter = deadletter.read(record)
    assert (record.key, record.value, dict(record.headers)["theirs"]) == (b"k", b"not an event", b"1")
    assert letter.source is not None
    assert (letter.source.topic, letter.source.partition, letter.source.offset) == (topic, 3, sent.offset)
    assert letter.error == "pipeline.errors.Undecodable"


async def test_duplicates_are_dropped_inside_a_batch_across_batches_restarts_and_workers(system: System) -> None:
    ingress = system.start("ingress")
    await system.ready(ingress)
    bodies = [delivery(f"e{n}", "complained", f"p{n}@x.io") for n in range(40)]
    # Nobody processes yet, so both rounds of these wait together.
    await system.deliver(ingress, bodies + bodies)
    first = system.start("processor")
    await system.ready(first)
    await system.caught_up()
    await system.deliver(ingress, bodies)  # across batches
    await system.caught_up()
    assert first.stop() == 0
    first.restart()  # across a restart
    await system.ready(first)
    await system.deliver(ingress, bodies)
    await system.caught_up()
    second = system.start("processor")  # across workers: half of the lanes move
    await system.ready(second)
    await system.deliver(ingress, bodies)
    await system.caught_up()
    first.kill()  # and the other half, restored by who never saw them
    await system.deliver(ingress, bodies)
    await system.caught_up()
    assert len(await system.events()) == 6 * len(bodies)
    markers = await system.markers()
    assert len(markers) == len(bodies)
    assert set(markers.values()) == {1}
    written = await system.records(system.topics.suppressions)
    assert len(written) == len(bodies)


async def test_a_duplicate_is_counted_by_provider_and_age(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, [delivery("e1", "opened", "a@x.io")] * 3)
    await system.caught_up()

    async def counted() -> bool:
        found = await system.metric(processor, "postlog_processor_duplicates_total")
        return found == {'{age="minute",provider="nexuspromail"}': 2}

    await until(counted, "two duplicates are counted")
