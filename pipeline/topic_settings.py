"""Changes settings of topics that are there, and no others.

A shell over aiokafka's admin client, which can only replace all settings of a topic: what a request of its does not
name goes back to the broker's default. Kafka has another request for that since 2.3 (KIP-339).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import stamina
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from pipeline import kafka, security
from pipeline.differences import Difference
from pipeline.errors import KafkaUnavailable
from pipeline.settings import Settings

#: By topic, its settings by name.
Values = Mapping[str, Mapping[str, str]]

_TEXT = String("utf-8")
#: Kafka's number for giving a setting a value.
_SET = 0


class _Response(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(("error_code", Int16), ("error_message", _TEXT), ("resource_type", Int8), ("resource_name", _TEXT)),
        ),
    )


class _Struct(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", _TEXT),
                ("configs", Array(("name", _TEXT), ("operation", Int8), ("value", _TEXT))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Request(Request[_Struct]):  # type: ignore[misc]
    """IncrementalAlterConfigs of topics."""

    API_KEY = 44

    def __init__(self, values: Values) -> None:
        self._resources = [
            (int(ConfigResourceType.TOPIC), topic, [(name, _SET, value) for name, value in settings.items()])
            for topic, settings in values.items()
        ]

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        return request_struct_class(self._resources, False)


async def put(client: AIOKafkaAdminClient, values: Values) -> None:
    """Give settings of topics these values; all others stay.

    Raises KafkaRefused if we may not, and KafkaError if the cluster refuses a value; others may be changed then.
    """
    answer: Any = await client._send_request(_Request(values))
    if denied := [r[3] for r in answer.resources if r[0] == TopicAuthorizationFailedError.errno]:
        raise security.not_allowed("topic", *sorted(denied))
    for code, message, _, name in answer.resources:
        if code:
            raise for_code(code)(f"{name}: {message}")


async def change(settings: Settings, wanted: Sequence[Difference]) -> list[Difference]:
    """Give settings of topics the file's values; those of `wanted` that are settings, once the cluster has them.

    Raises ConfigError, KafkaUnavailable, and what `put` raises.
    """
    changed = [each for each in wanted if each.setting]
    if changed:
        values: dict[str, dict[str, str]] = defaultdict(dict)
        for each in changed:
            values[each.topic][each.what] = each.file
        async with kafka.admin(settings) as client:
            await put(client, values)
        await _until_seen(settings, {(each.topic, each.what) for each in changed})
    return changed


async def _until_seen(settings: Settings, changed: set[tuple[str, str]]) -> None:
    """Brokers learn of new settings a moment after the controller."""
    try:
        async for attempt in stamina.retry_context(on=LookupError, timeout=30.0, attempts=None, wait_max=0.5):
            with attempt:
                if left := changed & {(each.topic, each.what) for each in await kafka.check(settings)}:
                    raise LookupError(left)
    except LookupError as error:
        raise KafkaUnavailable(
            f"the brokers do not show what was changed: {error}. Look again: postlog topics check"
        ) from None
