"""Which topics stand under our names: one that was deleted and made anew has another id.

A shell over aiokafka's client, which knows topics by name alone and reads on in a new log as if it were the former.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from pipeline import kafka
from pipeline.settings import Settings

#: How often clients bring up to date what they know of topics, in ms. Who is idle is blind in between, which by
#: default is five minutes.
LOOK_MS = 10_000
_NAME = CompactString("utf-8")
_ID_BYTES = 16
_NONE = bytes(_ID_BYTES)


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_ID_BYTES)


_BROKER = (("node_id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME), ("tags", TaggedFields))
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)


class _Response(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME), ("tags", TaggedFields)
            ),
        ),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _NAME),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                ("partitions", CompactArray(*_PARTITION)),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Struct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", _NAME), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Request(Request[_Struct]):  # type: ignore[misc]
    """Metadata in version 10, the first that tells the ids of topics (KIP-516). It creates none."""

    API_KEY = 3

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        topics: list[tuple[bytes, str, dict[int, bytes]]] = [(_NONE, name, {}) for name in self._names]
        return request_struct_class(topics, False, False, False, {})


async def ask(settings: Settings, names: Collection[str]) -> dict[str, str]:
    """The ids of topics that are there; see `of`. Raises KafkaUnavailable if one stays away."""

    async def ids(client: AIOKafkaAdminClient) -> dict[str, str]:
        found = await of(client._client, names)
        if missing := sorted(set(names) - found.keys()):
            raise UnknownTopicOrPartitionError(", ".join(missing))
        return found

    return await kafka.ask(settings, ids)


async def of(client: AIOKafkaClient, names: Collection[str]) -> dict[str, str]:
    """The ids of topics by name, as Kafka's tools write them; one that is not there is left out.

    An id is empty where the brokers know none (before Kafka 2.8): then nobody can tell a new topic by it.

    Raises KafkaError if nobody answers, or one of the topics may not be seen.
    """
    node = client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known")
    try:
        answer: Any = await client.send(node, _Request(names))
    except NotImplementedError:
        return dict.fromkeys(names, "")
    found = {}
    for code, name, identity, *_ in answer.topics:
        error = for_code(code)
        if error is TopicAuthorizationFailedError:
            raise error(name)
        if error is not UnknownTopicOrPartitionError:
            found[name] = _written(identity)
    return found


def _written(identity: bytes) -> str:
    return "" if identity == _NONE else urlsafe_b64encode(identity).decode().rstrip("=")


def gone(known: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Topics that are not there any more."""
    return sorted(known.keys() - now.keys())


def remade(known: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Topics that were deleted and made anew since they were known."""
    return sorted(name for name, identity in known.items() if another(identity, now.get(name, "")))


def another(known: str, now: str) -> bool:
    """Whether these are ids of two topics; not if one of them is not known."""
    return bool(known and now) and known != now
