"""How many entries of the list have a key that an earlier release gave their address: people have to be told.

A shell. It walks the lists of all open lanes once, a little at a time, since nothing waits for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from processor import former, metrics
from processor.lane import Lane

log = structlog.get_logger(__name__)

#: Keys of a lane that are looked at in one go: a few ms.
SLICE = 4_000
CURE = "nobody finds these entries by the address as it is written now; join them with postlog replay --rebuild"


@dataclass(slots=True)
class _Walk:
    """How far the walk over a lane's list is; next is None at its end."""

    next: bytes | None = b""
    found: int = 0


class FormerKeys:
    """Counts them lane by lane."""

    def __init__(self) -> None:
        self._walks: dict[Lane, _Walk] = {}

    async def look(self, lanes: Sequence[Lane]) -> None:
        """Go on a little in the list of every lane that is open. Raises StoreBroken."""
        for lane in self._walks.keys() - {lane for lane in lanes if lane.is_open}:
            del self._walks[lane]
            metrics.forget_former(lane.number)
        for lane in lanes:
            if lane.is_open:
                self._go_on(lane, self._walks.setdefault(lane, _Walk()))
                # Others have their turn.
                await asyncio.sleep(0)

    def _go_on(self, lane: Lane, walk: _Walk) -> None:
        if walk.next is None:
            return
        keys = lane.listed(SLICE, walk.next)
        walk.found += former.count(keys)
        # The smallest key behind another is itself with a zero byte.
        walk.next = keys[-1] + b"\0" if keys else None
        if walk.next is None:
            metrics.FORMER_KEYS.labels(lane.number).set(walk.found)
            if walk.found:
                log.warning(CURE, partition=lane.number, entries=walk.found)
