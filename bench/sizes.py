"""How many bytes something takes on a disk: topics on their brokers, and folders here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from pipeline import kafka
from pipeline.settings import Settings

_API, _VERSION = 35, 1


class _Described(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = _API, _VERSION
    _partition = ("partition", Int32), ("size", Int64), ("lag", Int64), ("is_future", Boolean)
    _topic = ("topic", String("utf-8")), ("partitions", Array(*_partition))
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("folders", Array(("error_code", Int16), ("folder", String("utf-8")), ("topics", Array(*_topic)))),
    )


class _DescribeStruct(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = _API, _VERSION, _Described
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class _Describe(Request[_DescribeStruct]):  # type: ignore[misc]
    """DescribeLogDirs, which aiokafka does not know, of every topic."""

    API_KEY = _API

    def build(self, request_struct_class: type[_DescribeStruct]) -> _DescribeStruct:
        return request_struct_class(None)


async def of_topics(settings: Settings) -> dict[str, int]:
    """Bytes of every topic on the disks of all brokers, replicas included."""
    found: Counter[str] = Counter()
    async with kafka.admin(settings) as client:
        for broker in client._client.cluster.brokers():
            answer = await client._send_request_to_node(broker.nodeId, _Describe())
            for _, _, topics in answer.folders:
                for name, partitions in topics:
                    found[name] += sum(size for _, size, *_ in partitions)
    return dict(found)


def of_folder(folder: Path) -> int:
    """Bytes of all files in a folder and below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
