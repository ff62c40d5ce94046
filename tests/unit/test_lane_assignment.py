"""Which partitions of the events have a lane, and how the group shares them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from faust.types import TP

from pipeline import topics
from pipeline.settings import Settings
from processor import app as processor
from processor.lanes import Lanes
from processor.site import Site

TOPICS = topics.load(topics.default_file())
EVENTS = TOPICS.events.name


class Cluster:
    """A cluster in which the events have so many partitions."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._partitions)) if topic == EVENTS else None


def shared_out(partitions: int, members: int, folder: Path) -> list[list[int]]:
    """The partitions of each member once so many have joined."""
    site = Site(Settings(state_dir=str(folder)), TOPICS, folder, "group")
    assignor = cast(Any, processor.build(site, cast(Lanes, None)).assignor)
    joining = {f"member-{number}": assignor.metadata({EVENTS}) for number in range(members)}
    found = assignor.assign(Cluster(partitions), joining)
    return [sorted(number for _, numbers in found[member].assignment for number in numbers) for member in joining]


@pytest.mark.parametrize("partitions", [12, 13, 24, 48])
async def test_all_lanes_are_shared_out_evenly_and_nothing_beyond_them(partitions: int, tmp_path: Path) -> None:
    shares = shared_out(partitions, 2, tmp_path)
    assert [len(share) for share in shares] == [6, 6]
    assert sorted(number for share in shares for number in share) == list(range(12))


def test_what_a_former_release_gives_away_beyond_the_lanes_is_left_alone() -> None:
    given = {TP(EVENTS, 3), TP(EVENTS, 11), TP(EVENTS, 12), TP("another", 1)}
    assert processor.ours(given, TOPICS.events) == [3, 11]
