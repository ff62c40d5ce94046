"""`postlog dlq` on a real Kafka, with the real ingress and processor."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from console import dead_letters
from pipeline import contract, deadletter, kafka
from pipeline.contract import Event, EventType
from pipeline.deadletter import Source
from pipeline.errors import NoRecipient, Unreadable
from pipeline.letters import Place
from pipeline.settings import Settings
from tests.e2e.postlog import argv, postlog, whole
from tests.e2e.system import System, delivery, until

Json = dict[str, Any]


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "TOPIC_PREFIX": settings.topic_prefix}


def dlq(*args: str, env: dict[str, str], code: int = 0) -> Json:
    """Run a subcommand; the JSON that it prints. Fails if it exits with another code."""
    result = postlog("dlq", *args, "--json", env=env)
    assert result.returncode == code, result.stderr
    document: Json = json.loads(result.stdout)
    return document


def listed(env: dict[str, str], *filters: str) -> list[Json]:
    found: list[Json] = dlq("list", *filters, env=env)["letters"]
    return found


@asynccontextmanager
async def producer(system: System) -> AsyncIterator[AIOKafkaProducer]:
    found = AIOKafkaProducer(**kafka.client_options(system.settings))
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


def unread(body: bytes, *, at: int) -> Json:
    """A dead letter as the ingress writes it, of a body that its reader did not understand then."""
    headers = [
        (contract.HEADER_PROVIDER, b"nexuspromail"),
        (deadletter.CONTENT_TYPE, b"application/json"),
        *deadletter.headers(Unreadable("data: a reader of then"), stage="ingress", now=at),
    ]
    return {"key": None, "value": body, "headers": headers}


def rejected(system: System, number: int, *, at: int) -> Json:
    """A dead letter as the processor writes it, of an event that it would take today."""
    event = Event(
        provider="nexuspromail",
        type=EventType.COMPLAINT,
        provider_type="complained",
        id=f"rejected-{number}",
        id_basis="id",
        email=f"r{number}@x.io",
        email_given=f"r{number}@x.io",
        received_at=at,
    )
    partition = number % system.topics.events.partitions
    source = Source(system.topics.events.name, partition, number, at, "postlog-processor")
    headers = contract.headers(event, "00-" + "1" * 32 + "-" + "2" * 16 + "-00")
    headers += deadletter.headers(NoRecipient("email: a rule of then"), stage="processor", now=at, source=source)
    return {
        "key": contract.key(event),
        "value": contract.encode(event),
        "headers": headers,
        "partition": partition,
    }


async def park(system: System, letters: Iterable[Json]) -> None:
    async with producer(system) as found:
        name = system.topics.dead_letters.name
        sent = [await found.send(name, **letter) for letter in letters]
        await asyncio.gather(*sent)


async def test_a_letter_of_nobody_is_listed_shown_and_discarded(system: System, env: dict[str, str]) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    assert await system.post(ingress, delivery("e1", "complained", "ann at example.com")) == 200
    await system.caught_up()
    (event,) = await system.records(system.topics.events)

    (letter,) = listed(env, "--error", "NoRecipient", "--type", "complaint", "--provider", "nexuspromail")
    identity = letter["id"]
    assert identity == f"{event.partition}-{event.offset}"
    assert (letter["state"], letter["failures"], letter["redrives"]) == ("open", 1, 0)
    assert listed(env, "--type", "opened") == []
    assert listed(env, "--until", "1h") == []
    assert dlq("list", "--summary", env=env)["groups"][0]["count"] == 1
    for_people = postlog("dlq", "list", env=env).stdout
    assert identity in for_people
    assert "1 letter" in for_people

    shown = postlog("dlq", "show", identity, env=env)
    assert shown.returncode == 0, shown.stderr
    assert "ann" not in shown.stdout
    assert "NoRecipient" in shown.stdout
    revealed = dlq("show", identity, "--reveal", env=env)
    assert "ann at example.com" in revealed["payload"]
    assert dict(revealed["headers"])["postlog-id"] == "e1"

    # As the very record that left the marker: a duplicate would be dropped, and its letter with it.
    assert dlq("redrive", identity, env=env)["letters"] == [identity]
    await system.caught_up()
    (again,) = listed(env)
    assert (again["id"], again["failures"], again["redrives"]) == (identity, 2, 1)
    assert await system.metric(processor, "postlog_processor_duplicates_total") == {}

    done = dlq("discard", identity, "--because", "a test", "--who", "me", env=env)
    assert done["letters"] == [identity]
    assert listed(env) == []
    assert [found["id"] for found in listed(env, "--state", "discarded")] == [identity]
    _, action = dlq("show", identity, env=env)["actions"]
    assert (action["did"], action["who"], action["because"]) == ("discarded", "me", "a test")

    assert "not open" in dlq("discard", identity, "--because", "again", env=env, code=1)["refused"][0]["reason"]
    assert "discarded" in dlq("redrive", identity, env=env, code=1)["refused"][0]["reason"]
    assert len(await system.events()) == 2
    assert postlog("dlq", "show", "9-9", env=env).returncode == 1


async def test_a_letter_that_fails_again_is_one_letter_and_a_fourth_redrive_needs_force(
    system: System, env: dict[str, str]
) -> None:
    async with producer(system) as found:
        sent = await found.send_and_wait(
            system.topics.events.name, key=b"k", value=b"no event", headers=[("theirs", b"1")], partition=3
        )
    await system.ready(system.start("processor"))
    identity = f"3-{sent.offset}"

    for times in range(4):
        await system.caught_up()
        (letter,) = listed(env)
        assert (letter["id"], letter["failures"], letter["redrives"]) == (identity, times + 1, times)
        if times < 3:
            assert dlq("redrive", identity, env=env)["records"] == 1

    assert "3 times already" in dlq("redrive", identity, env=env, code=1)["refused"][0]["reason"]
    assert "3 times already" in dlq("redrive", "--all", env=env, code=1)["refused"][0]["reason"]
    assert len(await system.records(system.topics.events)) == 4
    assert dlq("redrive", identity, "--force", env=env)["letters"] == [identity]
    await system.caught_up()
    whole_letter = dlq("show", identity, env=env)
    assert len(whole_letter["failures"]) == 5
    assert [action["did"] for action in whole_letter["actions"]] == ["redriven"] * 4

    # The original and its first place are on every one of them, and nothing piled up.
    *_, last = await system.records(system.topics.events)
    assert (last.partition, last.key, last.value) == (3, b"k", b"no event")
    assert last.headers == (
        ("theirs", b"1"),
        ("postlog-origin", b"3:%d:%d" % (sent.offset, sent.timestamp)),
        ("postlog-redrives", b"4"),
    )


async def test_what_was_discarded_stays_so_through_a_replay_that_tells_of_each_event_once(
    system: System, env: dict[str, str]
) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, [delivery(f"e{number}", "complained", None) for number in range(3)])
    await system.caught_up()
    ids = [letter["id"] for letter in listed(env)]
    for _ in range(3):
        assert dlq("redrive", *ids, env=env)["records"] == 3
        await system.caught_up()
    assert dlq("discard", *ids, "--because", "test data", env=env)["letters"] == ids
    assert [letter["failures"] for letter in listed(env, "--state", "discarded")] == [4, 4, 4]

    assert processor.stop() == 0
    again = postlog("replay", "--from", "1h", "--yes", "--wait", "20", "--json", env=env)
    assert (again.returncode, json.loads(again.stdout)["again"]) == (0, 12), again.stderr
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    assert listed(env) == []
    assert [letter["failures"] for letter in listed(env, "--state", "discarded")] == [5, 5, 5]

    # A copy that is new says what becomes of it, and somebody who sends one wants to see that.
    assert dlq("redrive", ids[0], "--force", env=env)["records"] == 1
    await system.caught_up()
    (opened,) = listed(env)
    assert (opened["id"], opened["failures"]) == (ids[0], 6)


async def test_a_stored_delivery_that_is_readable_now_is_applied_once(system: System, env: dict[str, str]) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    hour_ago = int(time.time() * 1000) - 3_600_000
    came_again, only_here = (delivery(f"e{n}", "complained", f"p{n}@x.io") for n in (1, 2))
    await park(system, [unread(body, at=hour_ago) for body in (came_again, only_here, b"{")])
    assert await system.post(ingress, came_again) == 200  # meanwhile the provider sent it again
    await system.caught_up()
    assert await system.suppressed() == {"p1@x.io"}

    would = dlq("redrive", "--all", "--dry-run", env=env, code=1)
    assert (len(would["letters"]), would["records"], len(would["refused"])) == (2, 2, 1)
    assert len(await system.events()) == 1
    assert len(listed(env)) == 3

    outcome = dlq("redrive", "--all", "--yes", env=env, code=1)
    assert (len(outcome["letters"]), outcome["records"]) == (2, 2)
    (refused,) = outcome["refused"]
    assert "still unreadable" in refused["reason"]
    assert [letter["id"] for letter in listed(env)] == [refused["id"]]
    assert await system.post(ingress, only_here) == 200  # and afterwards
    await system.caught_up()

    assert await system.suppressed() == {"p1@x.io", "p2@x.io"}
    assert sorted((await system.markers()).values()) == [1, 1]
    (duplicates,) = (await system.metric(processor, "postlog_processor_duplicates_total")).values()
    assert duplicates == 2
    arrivals = {event["received_at"] for event in await system.events() if event["email"] == "p2@x.io"}
    assert min(arrivals) == hour_ago


async def test_thousands_of_letters_are_redriven_each_applied_once(system: System, env: dict[str, str]) -> None:
    at = int(time.time() * 1000) - 60_000
    half = 2500
    bodies = [delivery(f"stored-{n}", "complained", f"s{n}@x.io") for n in range(half)]
    await park(system, [unread(body, at=at) for body in bodies])
    await park(system, [rejected(system, number, at=at) for number in range(half)])
    await park(system, [unread(delivery("old", "complained", "old@x.io"), at=at - 3_600_000)])
    await system.ready(system.start("processor"))

    narrow = ("--since", "30m", "--state", "any")
    result = postlog("dlq", "redrive", "--all", "--yes", *narrow, env=env | {"FORCE_COLOR": "1"})
    assert result.returncode == 0, result.stderr
    assert "5,000 letters sent as 5,000 records, 0 refused" in result.stdout
    assert "redriving" in result.stderr
    await system.caught_up()
    expected = {f"{letter}{n}@x.io" for letter in "sr" for n in range(half)}
    assert await system.suppressed() == expected
    markers = await system.markers()
    assert (len(markers), set(markers.values())) == (2 * half, {1})
    assert [letter["state"] for letter in listed(env)] == ["open"]  # the old one, which did not match

    # All of it once more: the same records again, or duplicates.
    assert len(dlq("redrive", "--all", "--yes", *narrow, env=env)["letters"]) == 2 * half
    assert {letter["redrives"] for letter in listed(env, "--state", "redriven")} == {2}
    await system.caught_up()
    assert await system.markers() == markers
    assert await system.suppressed() == expected
    written = await system.records(system.topics.suppressions)
    assert len(written) == len(expected)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_a_rate_is_kept_and_a_redrive_that_was_ended_can_be_repeated(
    system: System, env: dict[str, str], how: signal.Signals
) -> None:
    at = int(time.time() * 1000)
    await park(system, [rejected(system, number, at=at) for number in range(120)])
    await system.ready(system.start("processor"))
    line = argv("dlq", "redrive", "--all", "--yes", "--rate", "40")
    process = await asyncio.create_subprocess_exec(*line, env=whole(env), stdout=DEVNULL, stderr=PIPE)

    async def under_way() -> bool:
        return len(await system.records(system.topics.events)) >= 20

    try:
        await until(under_way, "some letters are sent")
    finally:
        process.send_signal(how)
        _, said = await process.communicate()
    sent = len(await system.records(system.topics.events))
    assert 20 <= sent < 120
    assert 0 < len(listed(env)) <= 120
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"stopped: {sent} of 120 letters were sent and are noted".encode() in said
        assert len(listed(env)) == 120 - sent

    outcome = dlq("redrive", "--all", "--yes", "--rate", "40", env=env)
    records = await system.records(system.topics.events)
    times = sorted(record.timestamp for record in records)[sent:]
    took = (times[-1] - times[0]) / 1000
    assert (len(outcome["letters"]) - 1) / 40 * 0.9 <= took < 15
    assert listed(env) == []
    await system.caught_up()
    markers = await system.markers()
    assert (len(markers), set(markers.values())) == (120, {1})


async def test_letters_far_apart_are_fetched_and_expired_ones_left_out(system: System) -> None:
    topic = system.topics.dead_letters
    await park(system, [{"key": b"k", "value": b"%d" % number, "partition": 5} for number in range(3000)])
    async with kafka.admin(system.settings) as client:
        await client.delete_records({TopicPartition(topic.name, 5): RecordsToDelete(before_offset=10)})
    async with dead_letters.reader(system.settings) as consumer:
        wanted = [Place(5, offset) for offset in (2999, 3, 10, 11, 400, 2000, 2001, 5000)] + [Place(6, 0)]
        found = [record.value async for record in dead_letters.fetch(consumer, topic, wanted)]
    assert found == [b"10", b"11", b"400", b"2000", b"2001", b"2999"]
