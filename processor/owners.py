"""Whether every partition of the events has an owner in the group.

A shell over aiokafka's client. A processor that was given nothing cannot know by itself whether all is well: others
may have everything, or nobody has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code
from aiokafka.protocol.admin import DescribeGroupsRequest

from pipeline.topics import Topic

#: A group that shares its partitions out is in another state, and who has what is not settled.
_SETTLED = frozenset({"Stable", "Empty", "Dead"})


async def missing(client: AIOKafkaClient, group: str, topic: Topic) -> frozenset[int] | None:
    """Partitions that topics.yaml names and no member has; None while that is not settled. Raises KafkaError."""
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    answer: Any = await client.send(node, DescribeGroupsRequest([group]))
    [(code, _, state, _, _, members, *_)] = answer.groups
    if code:
        raise for_code(code)(group)
    if state not in _SETTLED:
        return None
    return ownerless([assignment for *_, assignment in members], topic)


def ownerless(assignments: Iterable[bytes], topic: Topic) -> frozenset[int]:
    """Partitions that are in none of the members' assignments, each as the group's protocol encodes it."""
    owned = {
        number
        for assignment in assignments
        if assignment
        for name, numbers in ConsumerProtocolMemberAssignment.decode(assignment).assignment
        if name == topic.name
        for number in numbers
    }
    return frozenset(range(topic.partitions)) - owned
