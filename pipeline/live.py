"""What a cluster has of our topics.

A shell over aiokafka's clients; `pipeline.differences` compares it with the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import LeaderNotAvailableError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.offset import OffsetRequest

from pipeline import security
from pipeline.differences import Live, kept
from pipeline.topics import Topic, Topics

#: How Kafka asks for a log's end, and for it as it is: also what is in a transaction.
_END, _READ_UNCOMMITTED = -1, 0


async def live_topics(client: AIOKafkaAdminClient, topics: Topics) -> dict[str, Live]:
    """What the cluster has of these topics, by name; a topic it does not have is left out.

    Raises KafkaRefused with the names of those that we may not see, and KafkaError where a partition of our own that
    the file does not know has no leader.
    """
    configs = await _configs(client, [topic.name for topic in topics.all()])
    # Of these alone, because asking for a topic that is not there may create it.
    asked = await client.describe_topics(list(configs)) if configs else []
    _require_allowed(found["topic"] for found in asked if found["error_code"] == TopicAuthorizationFailedError.errno)
    described = {found["topic"]: found["partitions"] for found in asked if not found["error_code"]}
    ours = {topic.name: topic.partitions for topic in kept(topics)}
    return {
        name: Live(
            partitions=len(partitions),
            replication=min((len(partition["replicas"]) for partition in partitions), default=0),
            config=configs[name],
            written=await _written(client, name, partitions, ours[name]) if name in ours else (),
        )
        for name, partitions in described.items()
    }


async def records_beyond(consumer: AIOKafkaConsumer, topic: Topic) -> int:
    """How many records are on partitions that the file does not know; markers of transactions count, too.

    Raises KafkaError.
    """
    # A consumer that reads nothing of a topic knows nothing of it, unless it is told to.
    await consumer._client._wait_on_metadata(topic.name)
    there = consumer.partitions_for_topic(topic.name) or ()
    beyond = [TopicPartition(topic.name, number) for number in there if number >= topic.partitions]
    if not beyond:
        return 0
    first, end = await consumer.beginning_offsets(beyond), await consumer.end_offsets(beyond)
    return sum(end[partition] - first[partition] for partition in beyond)


async def _written(
    client: AIOKafkaAdminClient, name: str, partitions: Sequence[Mapping[str, Any]], wanted: int
) -> tuple[int, ...]:
    """Partitions from `wanted` on that something was ever written to, also if it is gone."""
    found = []
    for partition in partitions:
        number, leader = partition["partition"], partition["leader"]
        if number < wanted:
            continue
        if leader < 0:
            raise LeaderNotAvailableError(f"{name}-{number}")
        question = OffsetRequest(-1, _READ_UNCOMMITTED, [(name, [(number, _END)])])
        [(_, [(_, code, _, end, *_)])] = (await client._client.send(leader, question)).topics
        if code:
            raise for_code(code)(f"{name}-{number}")
        if end > 0:
            found.append(number)
    return tuple(sorted(found))


async def _configs(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings of the topics that are there, by name."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answers = await client.describe_configs(resources)
    found = [resource for answer in answers for resource in answer.to_object()["resources"]]
    _require_allowed(r["resource_name"] for r in found if r["error_code"] == TopicAuthorizationFailedError.errno)
    return {
        resource["resource_name"]: {e["config_names"]: e["config_value"] for e in resource["config_entries"]}
        for resource in found
        if not resource["error_code"]
    }


def _require_allowed(hidden: Iterable[str]) -> None:
    """A topic that we may not see looks like one that is missing, unless it is asked for by name."""
    if names := sorted(hidden):
        raise security.not_allowed("topic", *names)
