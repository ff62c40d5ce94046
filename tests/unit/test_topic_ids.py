"""How the ids of topics are asked for, and what they tell."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from pipeline import topic_ids

ID, OTHER = bytes(range(16)), bytes(range(1, 17))
WRITTEN = "AAECAwQFBgcICQoLDA0ODw"


class Client:
    """Answers with what it has: error code and id by topic."""

    def __init__(self, topics: dict[str, tuple[int, bytes]], *, version: int = 13, brokers: bool = True) -> None:
        self._topics = topics
        self._version = version
        self._brokers = brokers
        self.sent = b""

    def get_random_node(self) -> int | None:
        return 1 if self._brokers else None

    async def send(self, _: int, request: Any) -> Any:
        asked = request.prepare({3: (0, self._version)})
        self.sent = asked.encode()
        parts: list[Any] = [(0, 0, 1, 4, [1], [1], [], {})]
        topics: list[Any] = []
        for _, name, _ in asked.topics:
            code, identity = self._topics.get(name, (3, bytes(16)))
            topics.append((code, name, identity, False, parts, -1, {}))
        answer = asked.RESPONSE_TYPE(0, [(1, "kafka.example", 9092, None, {})], "cluster", 1, topics, -1, {})
        return asked.RESPONSE_TYPE.decode(answer.encode())


async def ids(client: Client, *names: str) -> dict[str, str]:
    return await topic_ids.of(client, names)


async def test_the_ids_of_those_that_are_there_and_none_is_created() -> None:
    client = Client({"a": (0, ID), "b": (5, OTHER)})  # b has no leader yet
    assert await ids(client, "a", "b", "c") == {"a": WRITTEN, "b": "AQIDBAUGBwgJCgsMDQ4PEA"}
    # https://kafka.apache.org/protocol#The_Messages_Metadata, version 10: three flags and the tags are the end.
    nobody = bytes(16)
    assert client.sent == b"\x04" + b"".join(nobody + b"\x02" + name + b"\0" for name in (b"a", b"b", b"c")) + bytes(
        4
    )


async def test_brokers_that_know_no_ids_tell_nothing() -> None:
    assert await ids(Client({}, version=9), "a") == {"a": ""}


async def test_who_may_not_see_a_topic_does_not_take_it_for_gone() -> None:
    with pytest.raises(TopicAuthorizationFailedError):
        await ids(Client({"a": (29, bytes(16))}), "a")
    with pytest.raises(KafkaConnectionError):
        await ids(Client({}, brokers=False), "a")


@pytest.mark.parametrize(
    ("known", "now", "gone", "remade"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, [], []),
        ({"a": "1", "b": "2"}, {"b": "2"}, ["a"], []),
        ({"a": "1", "b": "2"}, {"a": "3", "b": "2"}, [], ["a"]),
        ({"a": "", "b": "2"}, {"a": "3", "b": ""}, [], []),  # nobody knows
    ],
)
def test_what_became_of_them(known: dict[str, str], now: dict[str, str], gone: list[str], remade: list[str]) -> None:
    assert topic_ids.gone(known, now) == gone
    assert topic_ids.remade(known, now) == remade
