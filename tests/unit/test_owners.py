"""Which partitions of the events have no owner."""

from __future__ import annotations

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from pipeline import topics
from processor import owners

EVENTS = topics.load(topics.default_file()).events
ALL = frozenset(range(EVENTS.partitions))


def given(*partitions: int, topic: str = EVENTS.name) -> bytes:
    """A member's assignment as it lies in the group."""
    encoded: bytes = ConsumerProtocolMemberAssignment(4, [(topic, list(partitions))], b"more").encode()
    return encoded


@pytest.mark.parametrize(
    ("assignments", "missing"),
    [
        ([given(*ALL)], frozenset()),
        ([given(*range(6)), given(*range(6, EVENTS.partitions))], frozenset()),
        ([given(*range(6)), given()], frozenset(range(6, EVENTS.partitions))),
        ([given(*ALL), given(), given(EVENTS.partitions)], frozenset()),  # one more than topics.yaml names
        ([given(*ALL, topic="another"), b""], ALL),
        ([], ALL),
    ],
)
def test_a_partition_that_is_in_no_members_assignment_has_no_owner(
    assignments: list[bytes], missing: frozenset[int]
) -> None:
    assert owners.ownerless(assignments, EVENTS) == missing
