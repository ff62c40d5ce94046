"""The lanes this process owns, and what waits for each.

A shell. A free lane takes everything that waits for it into its next transaction: that costs the same for one record
or thousands, so batches grow with the backlog and shrink to nothing when idle. The first lane that fails ends the
process; nothing of its batch is committed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence

import structlog

from pipeline.contract import Record
from pipeline.errors import OffsetGap
from processor import guard as guards
from processor import metrics
from processor.guard import Guard
from processor.lane import Lane, Site

log = structlog.get_logger(__name__)

#: What may wait in memory for one lane before its partition is left alone: transactions' worth of records, and bytes.
BACKLOG_BATCHES = 2
BACKLOG_BYTES = 32 * 1024 * 1024
#: Lanes that restore at once: each has a fetch buffer and a producer that is just starting.
OPENING_AT_ONCE = 4


class Lanes:
    """Assigned and revoked by the consumer group, fed by the agent.

    failure  done when a lane has failed, with its exception
    """

    def __init__(self, site: Site) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._site = site
        self._guard = guards.of(site.handlers, site.settings.processor_max_rejected_share)
        metrics.show_circuits(self._guard.circuits)
        self._owned: dict[int, _Owned] = {}
        self._room = asyncio.Event()
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)

    @property
    def all(self) -> list[Lane]:
        """The lanes this process owns, open or opening."""
        return [owned.lane for owned in self._owned.values()]

    def assign(self, numbers: Collection[int]) -> None:
        """Open the lanes of these partitions, in the background; what arrives meanwhile waits."""
        for number in sorted(set(numbers) - self._owned.keys()):
            owned = _Owned(number, self._site, self._guard, self._room)
            self._owned[number] = owned
            owned.task = asyncio.create_task(owned.run(self._opening), name=f"lane-{number}")
            owned.task.add_done_callback(self._ended)

    async def revoke(self, numbers: Collection[int]) -> None:
        """Give partitions up: forget what waits, let the transaction in hand finish, close.

        What was fetched but not started belongs to the next owner.
        """
        leaving = [self._owned.pop(number) for number in numbers if number in self._owned]
        await asyncio.gather(*[owned.leave() for owned in leaving])

    async def close(self) -> None:
        """Give every partition up."""
        await self.revoke(list(self._owned))

    def deliver(self, number: int, records: Sequence[Record]) -> None:
        """Let records wait for their lane; those of a partition that is not ours any more are dropped."""
        if number in self._owned:
            try:
                self._owned[number].put(records)
            except OffsetGap as error:
                self._fail(error)

    def has_room(self, number: int) -> bool:
        """Whether more records should be fetched for a partition."""
        return number in self._owned and self._owned[number].has_room()

    async def until_room(self, timeout: float) -> None:
        """Wait until a lane has taken what waited for it, `timeout` seconds at most."""
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), timeout)
        except TimeoutError:
            return

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)


class _Owned:
    """A lane, its backlog and the task that drives it."""

    def __init__(self, number: int, site: Site, guard: Guard, room: asyncio.Event) -> None:
        self._wake = asyncio.Event()
        self.lane = Lane(number, site, guard, self._wake.set)
        self.task: asyncio.Task[None]
        self._max_batch = site.settings.processor_max_batch
        self._backlog: deque[Sequence[Record]] = deque()
        self._waiting = 0
        self._bytes = 0
        self._expected: int | None = None
        self._leaving = False
        self._room = room

    def put(self, records: Sequence[Record]) -> None:
        """Let a fetch wait. Raises OffsetGap unless it goes on where the one before it ended, without a hole.

        Backwards is as bad as a jump: then the broker has lost the end of its log, and uses its offsets again.
        """
        first, end = records[0].offset, records[-1].offset + 1
        if end - first != len(records) or self._expected not in (None, first):
            raise OffsetGap(
                f"partition {self.lane.number}: expected offset {self._expected}, got {len(records)} records "
                f"from {first} to {end - 1}; starting again from the committed offset"
            )
        self._expected = end
        self._backlog.append(records)
        self._count(len(records), _size(records))
        self._wake.set()

    def has_room(self) -> bool:
        little_waits = self._waiting < BACKLOG_BATCHES * self._max_batch and self._bytes < BACKLOG_BYTES
        return little_waits and not self.lane.owes_too_much

    async def run(self, opening: asyncio.Semaphore) -> None:
        try:
            async with opening:
                self.lane.begin()
                await self.lane.open()
            while await self._something_waits():
                await self.lane.work(self._take())
                self._room.set()
            await self.lane.finish_calls()
        finally:
            await self.lane.close()

    async def leave(self) -> None:
        self._leaving = True
        self._wake.set()
        if not self.lane.is_open:
            # Nothing is in hand yet, and a long restore must not hold up the group's rebalance.
            self.task.cancel()
        self._backlog.clear()
        self._count(-self._waiting, -self._bytes)
        await asyncio.wait([self.task])

    async def _something_waits(self) -> bool:
        """Wait for records, or for a call that ended; False when it is time to go."""
        await self._wake.wait()
        return not self._leaving

    def _take(self) -> list[Record]:
        """Everything that waits, up to one transaction's worth."""
        taken: list[Record] = []
        while self._backlog and len(taken) < self._max_batch:
            taken.extend(self._backlog.popleft())
        self._count(-len(taken), -_size(taken))
        if not self._backlog and not self._leaving:
            self._wake.clear()
        self._room.set()
        return taken

    def _count(self, records: int, size: int) -> None:
        self._waiting += records
        self._bytes += size
        metrics.LANE_BACKLOG.labels(self.lane.number).set(self._waiting)


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.value or b"") for record in records)
