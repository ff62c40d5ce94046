"""Somebody adds partitions to topics by hand: nothing stops, no key moves, and what is written there shows."""

from __future__ import annotations

import json

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions

from pipeline import contract, kafka
from pipeline.settings import Settings
from pipeline.topics import Topic
from tests.e2e.postlog import postlog
from tests.e2e.system import System, delivery, until
from tests.receiver import receiver
from tests.unit.records import event

EMAILS = [f"person-{number}@example.com" for number in range(24)]
METRIC = "postlog_processor_records_beyond"
MISPLACED = "postlog_processor_misplaced_total"


async def enlarge(settings: Settings, **partitions: int) -> None:
    """Add partitions to the topics of these roles, up to so many."""
    topics = kafka.topics_of(settings)
    wanted = {getattr(topics, role).name: count for role, count in partitions.items()}
    async with kafka.admin(settings) as client:
        await client.create_partitions({name: NewPartitions(count) for name, count in wanted.items()})

        async def there() -> bool:
            described = await client.describe_topics(list(wanted))
            return all(len(each["partitions"]) == wanted[each["topic"]] for each in described)

        await until(there, "the broker shows them")


async def write(system: System, topic: Topic, email: str, partition: int) -> None:
    """As somebody does who places records by what the cluster has."""
    async with AIOKafkaProducer(**kafka.client_options(system.settings)) as producer:
        made = event(email)
        key, value = contract.key(made), contract.encode(made)
        await producer.send_and_wait(topic.name, value, key=key, partition=partition)


def where(system: System) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": system.settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": system.settings.topic_prefix,
    }


async def test_added_partitions_stop_nothing_and_move_no_key(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    await system.deliver(ingress, [delivery(f"a{n}", "bounced.hard", email) for n, email in enumerate(EMAILS)])
    await enlarge(system.settings, events=13, suppressions=13, dead_letters=24, alerts=2, letter_states=2)
    # Whoever joins makes the group share out what there is now; all that start compare the topics.
    others = [system.start(name) for name in ("processor", "lookup", "ingress")]
    await system.ready(processor, *others)
    await system.deliver(others[-1], [delivery(f"b{n}", "complained", email) for n, email in enumerate(EMAILS)])
    await system.caught_up()

    records = await system.records(system.topics.events)
    assert len(records) == 2 * len(EMAILS)
    assert all(record.partition == contract.partition_of(record.key, 12) for record in records)
    assert await system.suppressed() == set(EMAILS)
    assert max((await system.markers()).values()) == 1

    await write(system, system.topics.events, "stranger@example.com", 12)
    await write(system, system.topics.dead_letters, "stranger@example.com", 20)
    names = [system.topics.events.name, system.topics.dead_letters.name]

    async def counted() -> bool:
        return {f'{{topic="{name}"}}': 1.0 for name in names} == await system.metric(processor, METRIC)

    await until(counted, "the records beyond are counted")
    assert processor.said().count("records are on partitions that topics.yaml does not know") == 2
    urls = ["--processor-url", processor.url, "--ingress-url", ingress.url]
    status = json.loads(postlog("status", "--json", *urls, env=where(system)).stdout)
    assert status["beyond"] == [{"topic": name, "records": 1} for name in names]
    assert await system.suppressed() == set(EMAILS)

    async with receiver() as people:
        alerter = system.start("alerter", ALERT_URLS=people.url)
        told = await people.notification()  # What is found together is told together.
        assert all(f"records are where nobody reads them ({name})" in str(told) for name in names), told
        await system.ready(alerter)
        assert [service.stop() for service in (processor, *others, ingress, alerter)] == [0] * 6


async def test_a_record_that_is_not_where_its_key_belongs_is_noticed(system: System) -> None:
    processor = system.start("processor")
    await system.ready(processor)
    right = contract.partition_of(b"stranger@example.com", 12)
    await write(system, system.topics.events, "stranger@example.com", right)
    await system.caught_up()
    assert (await system.metric(processor, MISPLACED))[""] == 0
    await write(system, system.topics.events, "stranger@example.com", (right + 1) % 12)
    await system.caught_up()

    async def counted() -> bool:
        return (await system.metric(processor, MISPLACED))[""] == 1

    await until(counted, "it is counted")
    assert "the key of a record belongs to another partition" in processor.said()


async def test_the_check_passes_with_added_partitions_and_names_no_other_count(system: System) -> None:
    await enlarge(system.settings, events=13, seen=13)
    for command in ("check", "apply"):
        result = postlog("topics", command, "--json", env=where(system))
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)["differences"]
        assert [(d["what"], d["cluster"], d["harmless"]) for d in found] == [("partitions", "13", True)] * 2
        assert not any("back into" in d["cure"] for d in found)
