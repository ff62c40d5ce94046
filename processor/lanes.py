"""The lanes this process owns, and what waits for each.

A shell. A lane whose turn it is takes everything that waits for it into its next transaction: that costs the same
for one record or thousands, so batches grow with the backlog and shrink to nothing when idle. The first lane that
fails ends the process; nothing of its batch is committed.

When the group shares its partitions out anew, lanes go on with what waits here: the fence protects them, not the
group. Only those that move are closed, and what their new owners did before is no failure of ours.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import structlog

from pipeline.contract import Record
from pipeline.errors import Fenced, OffsetGap
from processor import fetches, metrics
from processor import guard as guards
from processor.fetches import Span
from processor.guard import Guard
from processor.lane import Lane
from processor.site import Site
from processor.standby import Standbys
from processor.turns import Turns

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
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._standbys = Standbys(site)
        self._to_follow: set[int] = set()
        self._moving = False
        self._room = asyncio.Event()
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._turns = Turns()

    @property
    def all(self) -> list[Lane]:
        """The lanes this process owns, open or opening."""
        return [owned.lane for owned in self._owned.values()]

    def suspend(self) -> None:
        """The group shares its partitions out anew; `assign` tells what is ours then."""
        self._moving = True
        for owned in self._owned.values():
            owned.lane.pause_calls()

    def assign(self, numbers: Collection[int], standbys: Collection[int] = ()) -> None:
        """These partitions are ours now, and no others; of the lanes of `standbys` a copy is kept.

        Lanes that stay go on. Others are given up and new ones opened in the background; what arrives for them waits.
        """
        self._moving = False
        stay = {number for number in self._owned if number in numbers and not self._owned[number].fenced}
        self._leave(self._owned.keys() - stay)
        for number in stay:
            self._owned[number].resume()
        self._to_follow = set(standbys)
        self._follow()
        for number in sorted(set(numbers) - stay):
            self._standbys.release(number)
            owned = _Owned(number, self._site, self._guard, self._room)
            self._owned[number] = owned
            owned.task = asyncio.create_task(self._run(owned), name=f"lane-{number}")
            owned.task.add_done_callback(partial(self._ended, owned))

    async def close(self) -> None:
        """Give every partition up: forget what waits, let the transaction in hand finish, close."""
        self._to_follow.clear()
        await self._standbys.close()
        self._leave(self._owned)
        await asyncio.gather(*self._leaving.values())

    def _leave(self, numbers: Iterable[int]) -> None:
        """Give partitions up. What was fetched but not started belongs to the next owner."""
        for number in list(numbers):
            task = asyncio.create_task(self._owned.pop(number).leave())
            self._leaving[number] = task
            task.add_done_callback(partial(self._left, number))

    def _left(self, number: int, task: asyncio.Task[None]) -> None:
        if self._leaving.get(number) is task:
            del self._leaving[number]
        self._follow()

    def _follow(self) -> None:
        # One that is being given up has its store open still.
        self._standbys.follow(self._to_follow - self._leaving.keys())

    async def _run(self, owned: _Owned) -> None:
        """A lane that came back waits until it has been given up: its store is open once."""
        if former := self._leaving.get(owned.lane.number):
            await asyncio.wait([former])
        await owned.run(self._opening, self._turns)

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

    def _ended(self, owned: _Owned, task: asyncio.Task[None]) -> None:
        if task.cancelled() or not (error := task.exception()):
            return
        number = owned.lane.number
        if owned.fenced and (self._moving or self._owned.get(number) is not owned):
            # Its new owner was faster. Should it be ours all the same, `assign` opens it anew.
            log.info("lane has moved", partition=number)
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)


class _Owned:
    """A lane, its backlog and the task that drives it.

    fenced  another process has it, though nobody told us yet
    """

    def __init__(self, number: int, site: Site, guard: Guard, room: asyncio.Event) -> None:
        self._wake = asyncio.Event()
        self.lane = Lane(number, site, guard, self._wake.set)
        self.task: asyncio.Task[None]
        self._max_batch = site.settings.processor_max_batch
        self._backlog: deque[Span] = deque()
        self._waiting = 0
        self._bytes = 0
        self._expected: int | None = None
        self._leaving = False
        self._room = room
        self.fenced = False

    def put(self, records: Sequence[Record]) -> None:
        """Let a fetch wait. Raises OffsetGap unless it goes on where the one before it ended, without a hole.

        Backwards is as bad as a jump: then the broker has lost the end of its log, and uses its offsets again.
        """
        span = fetches.span_of(records)
        if self._expected not in (None, span.start):
            raise OffsetGap(
                f"partition {self.lane.number}: expected offset {self._expected}, got {len(span)} records "
                f"from {span.start} to {span.end - 1}; starting again from the committed offset"
            )
        self._expected = span.end
        self._backlog.append(span)
        self._count(len(records), _size(records))
        self._wake.set()

    def has_room(self) -> bool:
        little_waits = self._waiting < BACKLOG_BATCHES * self._max_batch and self._bytes < BACKLOG_BYTES
        return little_waits and not self.lane.owes_too_much

    async def run(self, opening: asyncio.Semaphore, turns: Turns) -> None:
        try:
            async with opening:
                self.lane.begin()
                await self.lane.open()
            while await self._something_waits():
                async with turns.turn():
                    # Taken now and not before: what came while it waited for its turn goes along.
                    await self.lane.work(self._take())
                self._room.set()
            await self.lane.finish_calls()
        except Fenced:
            self.fenced = True  # at once: closing takes a moment
            raise
        finally:
            await self.lane.close()

    def resume(self) -> None:
        """It stays after the partitions were shared out anew: fetching begins again at the committed offset."""
        self._forget()
        self.lane.resume_calls()

    def _forget(self) -> None:
        self._backlog.clear()
        self._count(-self._waiting, -self._bytes)
        self._expected = None

    async def leave(self) -> None:
        self._leaving = True
        self._wake.set()
        if not self.lane.is_open:
            # Nothing is in hand yet, and a long restore must not hold up the group's rebalance.
            self.task.cancel()
        self._forget()
        await asyncio.wait([self.task])

    async def _something_waits(self) -> bool:
        """Wait for records, or for a call that ended; False when it is time to go."""
        await self._wake.wait()
        return not self._leaving

    def _take(self) -> Span:
        """Everything that waits, up to one transaction's worth, and up to where a broker has taken the lead."""
        spans: list[Span] = []
        count = 0
        epoch = self._backlog[0].epoch if self._backlog else -1
        while self._backlog and count < self._max_batch and self._backlog[0].epoch <= epoch:
            spans.append(self._backlog.popleft())
            count += len(spans[-1])
        taken = fetches.join(spans)
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
