"""Where a consumer group stands, with nothing of a transaction missing that has ended.

A shell over aiokafka's admin client. A transaction's offsets become the group's a moment after its end is decided.
Whoever asks in between is told the former ones, unless he asks for stable ones, which aiokafka 0.14 cannot.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields
from aiokafka.structs import OffsetAndMetadata

from pipeline import kafka
from pipeline.errors import KafkaTooOld
from pipeline.settings import Settings

#: Kafka's number for it; aiokafka does not know it.
_UNSTABLE = 88
_NAME = CompactString("utf-8")


class UnstableOffsets(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """A transaction that holds offsets of the group has not ended yet. Asked again."""

    retriable = True


class _Response(Response):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _NAME),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _NAME),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _Struct(RequestStruct):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("group", _NAME),
        (
            "topics",
            CompactArray(("topic", _NAME), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class _Request(Request[_Struct]):  # type: ignore[misc]
    """OffsetFetch in version 7, the first that can ask for stable offsets (KIP-447)."""

    API_KEY = 9

    def __init__(self, group: str, partitions: Collection[TopicPartition]) -> None:
        topics = sorted({tp.topic for tp in partitions})
        self._group = group
        self._topics: list[tuple[str, list[int], dict[int, bytes]]] = [
            (name, [tp.partition for tp in partitions if tp.topic == name], {}) for name in topics
        ]

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        return request_struct_class(self._group, self._topics, True, {})


async def committed(
    settings: Settings, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The group's offsets; -1 where there is none.

    Raises KafkaUnavailable if there was no answer within KAFKA_WAIT_SECONDS, or a transaction was open for as long,
    and KafkaTooOld.
    """
    return await kafka.ask(settings, lambda client: _ask(client, group, partitions))


async def of_partition(settings: Settings, group: str, partition: TopicPartition) -> OffsetAndMetadata:
    """The group's offset of one partition; see `committed`."""
    return (await committed(settings, group, [partition]))[partition]


async def _ask(
    client: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    coordinator = await client.find_coordinator(group)
    try:
        answer: Any = await client._send_request(_Request(group, partitions), coordinator)
    except NotImplementedError:
        raise KafkaTooOld(
            "the brokers cannot tell whether an offset is final: postlog needs Kafka 2.5 or newer; update them"
        ) from None
    _check(answer.error_code, group)
    found = {}
    for topic, places, _ in answer.topics:
        for number, offset, _, metadata, code, _ in places:
            _check(code, f"{group}, {topic}-{number}")
            found[TopicPartition(topic, number)] = OffsetAndMetadata(offset, metadata or "")
    return found


def _check(code: int, what: str) -> None:
    if code == _UNSTABLE:
        raise UnstableOffsets(f"{what}: a transaction that moves it has not ended yet")
    if code:
        raise for_code(code)(what)
