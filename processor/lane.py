"""One partition: records in, commits out, and the calls of handlers that follow from them.

A shell: open, then one `work` at a time, then close. `work` decides a batch, commits what follows from it and from
ended calls of handlers, and goes on. `reading.py` says where it is on the log, `hold.py` commits. A crash before a
commit is repaired by redelivery.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import structlog
from aiokafka import TopicPartition

from pipeline import contract, incidents
from pipeline.contract import Record
from pipeline.errors import LaneClosed, TooManyRejections
from processor import bounds, calls, fetches, guard, metrics, position, reading
from processor.bounds import Mode
from processor.calling import Calling
from processor.commit import Changed, Commit
from processor.decide import NOBODY, Changes, State, decide
from processor.guard import Guard
from processor.hold import Hold
from processor.reading import Reading
from processor.site import Site

log = structlog.get_logger(__name__)

MISPLACED = (
    "the key of a record belongs to another partition: somebody else writes to the events, and places keys by "
    'another rule than postlog; docs/operations.md, "partitions that somebody added", says more'
)
#: Calls that a lane may owe before its partition is left alone: a slow handler must not fill the memory.
MOST_OWED = 10_000
#: How long calls under way may take when the lane is given up, in seconds; then the next owner makes them again.
DRAIN_SECONDS = 3.0


class Lane:
    """Owns partition `number` of the events topic and of every topic that is co-partitioned with it.

    moved_at  monotonic time of the last progress: a step of the restore, or a committed batch
    queued    other lanes are restored first, so that this one does not move yet

    `call_ended` is called when there is something to commit without new records: then work([]) commits it.
    """

    def __init__(self, number: int, site: Site, guard: Guard, call_ended: Callable[[], None]) -> None:
        self.number = number
        self.moved_at = time.monotonic()
        self.is_open = False
        self.queued = True
        self._site = site
        self._guard = guard
        self._wanted = calls.wanted(site.handlers)
        self._call_ended = call_ended
        self._told_misplaced = False
        self._calling: Calling | None = None
        self._hold = Hold(site, number)
        self._reading = Reading(site, number, self._hold.note_stop)

    @property
    def next(self) -> int:
        """Offset of the first record that is not processed yet."""
        return self._reading.next

    def begin(self) -> None:
        """It is this lane's turn to open."""
        self.queued = False
        self.moved()

    def moved(self) -> None:
        """Note that it got on, or that there is nothing to do."""
        self.moved_at = time.monotonic()

    async def open(self) -> None:
        """Fence the former owner, read the committed offset, restore the state; in this order.

        Before the fence the former owner could still commit, and both the offset and the changelogs read too
        early would miss its last transaction.
        """
        started = time.monotonic()
        await self._hold.fence()
        async with reading.reader(self._site.settings) as reader:
            committed = await self._reading.committed()
            restored = await self._hold.restore(reader, self.moved)
            store = self._hold.store
            made_of = None if store.empty() else store.source()
            await self._reading.start(reader, committed, self._hold.reached(), made_of)
            store.note_source(self._site.source_id)
        self._calling = Calling(self._site.handlers, self._guard.circuits, store, self._call_ended)
        self._calling.load()
        self._take_up_incidents()
        metrics.CALLS_OWED.labels(self.number).set(self._calling.owed)
        self.moved()
        self.is_open = True
        metrics.LANE_OPEN.labels(self.number).set(1)
        seconds = round(time.monotonic() - started, 3)
        log.info("lane open", partition=self.number, next=self.next, restored=restored, seconds=seconds)

    def listed(self, most: int, from_key: bytes) -> list[bytes]:
        """The first keys of its part of the list from a key on, none behind the last; only while it is open."""
        return [key for key, _ in self._hold.store.first_rows("suppressions", most, from_key)]

    @property
    def owes_too_much(self) -> bool:
        """Whether it owes so many calls that it should get no more records."""
        return self._calling is not None and self._calling.owed > MOST_OWED

    async def work(self, records: Sequence[Record]) -> int:
        """Commit what follows from contiguous records and from the calls that ended, once; how many records were new.

        records  may be empty

        Raises OffsetGap if records between `next` and the first one are missing, RecordsLost if the log has lost
        some, TooManyRejections if most would become dead letters, Fenced if the partition has another owner,
        KafkaError if it is not known whether the transaction was committed.
        """
        span = fetches.span_of(records)
        fresh = await self._reading.fresh(span)
        end = max(span.end if span.hole is None else span.hole, self.next)
        parts: list[tuple[Sequence[Record], Mode]] = bounds.parts(fresh, self._reading.mark.bounds) or [((), "whole")]
        ends = [*(part[0].offset for part, _ in parts[1:]), end]
        self._reading.verified(span.epoch)
        done = sum([await self._work(part, mode, upto) for (part, mode), upto in zip(parts, ends, strict=True)])
        if span.hole is not None:
            await self._reading.lost(position.hole(span.hole))
        return done

    async def _work(self, fresh: Sequence[Record], mode: Mode, end: int) -> int:
        """One transaction of `work`, for records that are all treated alike, and offsets to before `end`."""
        calling = self._opened_calling
        outcomes = calling.outcomes()
        noted = guard.changes(self._hold.noted, self._guard.circuits, moved=bool(fresh))
        if not fresh and not outcomes and not noted and end == self.next:
            return 0
        changes = self._decide(fresh, mode, end)
        await self._require_few_rejections(fresh, changes)
        noted |= self._guard.unknown.news(changes.unknown, _now())
        settled = calls.settle(outcomes, self._site.handlers, now=_now(), chance=random.random)
        # A replay meets calls that are owed still; what was tried of them stays counted.
        owed: Changed = {call.row: calls.encode(call) for call in changes.calls if not calling.owes(call.row)}
        await self._commit(Commit(changes, settled, owed, noted), fresh)
        calling.settle(settled)
        for row in owed:
            calling.add(row)
        self._look_at_place(fresh)
        metrics.count(self.number, len(fresh), changes)
        metrics.count_unknown(self._guard.unknown.counted(changes.unknown))
        metrics.count_calls(self.number, settled, calling.owed)
        return len(fresh)

    async def _commit(self, commit: Commit, fresh: Sequence[Record]) -> None:
        end, mark = commit.changes.end, self._reading.marked(fresh, self._hold.reached())
        await self._hold.commit(commit, self._reading.offset(end, mark))
        self._guard.unknown.take_up(commit.noted)
        self._reading.advance(end, mark)
        self.moved()

    async def _require_few_rejections(self, fresh: Sequence[Record], changes: Changes) -> None:
        """Raise TooManyRejections if it is not the records that are wrong."""
        if fresh and (reason := self._guard.rejections.add(len(fresh), len(changes.rejected))):
            await self._hold.note_stop(guard.REJECTIONS, reason)
            raise TooManyRejections(_rejections(self._reading.partition, self.next, reason, changes))

    def _look_at_place(self, fresh: Sequence[Record]) -> None:
        """See whether the first record is where its key belongs; to hash every key would cost too much."""
        if not fresh or fresh[0].key is None:
            return
        if contract.partition_of(fresh[0].key, self._site.topics.events.partitions) != self.number:
            metrics.MISPLACED.inc()
            if not self._told_misplaced:
                self._told_misplaced = True
                log.warning(MISPLACED, partition=self.number, offset=fresh[0].offset)

    def _decide(self, fresh: Sequence[Record], mode: Mode, end: int) -> Changes:
        if not fresh or mode == "skip":
            return Changes(end=end)
        state = State(self._hold.store.markers, self._hold.store.suppressions)
        changes = decide(fresh, state, wanted=self._wanted if mode == "whole" else NOBODY)
        if limits := self._reading.mark.bounds:
            changes.leave_out(lambda record: bounds.repeats(record, self.number, limits))
        changes.end = end  # offsets without a record may come after the last one
        return changes

    def _take_up_incidents(self) -> None:
        """Go on with what the former owner noted: a circuit that was open is probed, or has nothing to wait for."""
        for key, value in self._hold.store.rows("incidents"):
            incident = incidents.decode(value)
            circuit = self._guard.circuits.get(incident.subject)
            if incident.kind == "circuit_open" and circuit and self._opened_calling.owes_to(incident.subject):
                circuit.open(incident.since, incident.reason, probe_at=time.monotonic())
            elif key == guard.stopped(guard.REJECTIONS, "", 0).key:
                self._guard.rejections.suspect()
        metrics.count_unknown(dict.fromkeys(self._guard.unknown.take_up(self._hold.noted), 0))
        if self._hold.noted:
            self._call_ended()

    def pause_calls(self) -> None:
        """Begin no further call until `resume_calls`: if the lane is about to move, it would be made twice."""
        if self._calling is not None:
            self._calling.pause()

    def resume_calls(self) -> None:
        """The lane stays."""
        if self._calling is not None:
            self._calling.resume()

    async def finish_calls(self) -> None:
        """Begin no further call, give those under way DRAIN_SECONDS, and commit how they ended."""
        await self._opened_calling.drain(DRAIN_SECONDS)
        await self.work([])

    async def close(self) -> None:
        """Give the partition up; between batches only. Idempotent."""
        self.is_open = False
        metrics.forget(self.number)
        if self._calling is not None:
            calling, self._calling = self._calling, None
            await calling.close()
        await self._hold.close()

    @property
    def _opened_calling(self) -> Calling:
        if self._calling is None:
            raise LaneClosed(f"lane {self.number} is not open")
        return self._calling


def _now() -> int:
    return int(time.time() * 1000)


def _rejections(source: TopicPartition, offset: int, reason: str, changes: Changes) -> str:
    """Why the processor stops at an offset instead of emptying the topic into the dead letters, and what to do."""
    record, error = changes.rejected[0].record, changes.rejected[0].error
    return (
        f"{source.topic}-{source.partition}: {reason}, so nothing from offset {offset} on is committed; the first is "
        f"offset {record.offset}: {error}. Is this the right topic, and does this release fit who writes there? "
        "If the records are what is wrong, start once with PROCESSOR_MAX_REJECTED_SHARE=1"
    )
