"""How stable offsets are asked for, and what is done with an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupLoadInProgressError

from pipeline import offsets
from pipeline.errors import KafkaTooOld

TPS = [TopicPartition("b", 1), TopicPartition("a", 0), TopicPartition("b", 0)]


class Admin:
    """Answers with the code of a partition."""

    def __init__(self, versions: tuple[int, int] = (1, 9), code: int = 0) -> None:
        self._versions = versions
        self._code = code
        self.sent = b""

    async def find_coordinator(self, _: str) -> int:
        return 1

    async def _send_request(self, request: Any, _: int) -> Any:
        asked = request.prepare({9: self._versions})
        self.sent = asked.encode()
        topics: list[Any] = [
            (name, [(number, 5, 0, "{}", self._code, {}) for number in numbers], {})
            for name, numbers, _ in asked.topics
        ]
        answer = asked.RESPONSE_TYPE(0, topics, 0, {})
        return asked.RESPONSE_TYPE.decode(answer.encode())


async def ask(admin: Admin, partitions: Sequence[TopicPartition] = TPS) -> Any:
    return await offsets._ask(admin, "group", partitions)


async def test_only_stable_offsets_are_asked_for() -> None:
    admin = Admin()
    found = await ask(admin)
    assert found == dict.fromkeys(TPS, (5, "{}"))
    # https://kafka.apache.org/protocol#The_Messages_OffsetFetch, version 7: the flag is the last byte but the tags.
    assert admin.sent == b"\x06group\x03\x02a\x02\0\0\0\0\0\x02b\x03\0\0\0\x01\0\0\0\0\0\x01\0"


async def test_one_that_is_not_stable_yet_is_asked_for_again() -> None:
    with pytest.raises(offsets.UnstableOffsets) as raised:
        await ask(Admin(code=88))
    assert raised.value.retriable
    with pytest.raises(GroupLoadInProgressError):
        await ask(Admin(code=GroupLoadInProgressError.errno))


async def test_brokers_that_cannot_tell_are_refused_with_the_cure() -> None:
    with pytest.raises(KafkaTooOld, match=r"Kafka 2\.5 or newer; update them"):
        await ask(Admin(versions=(1, 6)))
