"""One partition: its state, its fence and its position.

A shell: open, then one `work` at a time, then close. `work` decides a batch, commits what follows from it and from
ended calls of handlers in one transaction {changelogs, dead letters, source offset}, and only then writes it to the
local store. A crash between the two is repaired by the next `open`, a crash before them by redelivery.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipeline import incidents, kafka, offsets
from pipeline.contract import Record
from pipeline.errors import ForeignOffset, LaneClosed, OffsetGap, RecordsLost, StateLost, TooManyRejections
from processor import (
    bounds,
    calls,
    dedup,
    fetches,
    guard,
    kept,
    letters,
    marks,
    metrics,
    position,
    source,
)
from processor.bounds import Mode
from processor.calling import Calling
from processor.calls import Settled
from processor.decide import NOBODY, Changes, State, decide
from processor.fetches import Span
from processor.guard import Guard
from processor.letters import Row
from processor.marks import Last, Mark
from processor.place import Place
from processor.site import Site
from processor.store import Store, Table
from processor.transaction import Transactions

log = structlog.get_logger(__name__)

RESTORE_FETCH_BYTES = 8 * 1024 * 1024
#: Calls that a lane may owe before its partition is left alone: a slow handler must not fill the memory.
MOST_OWED = 10_000
#: How long calls under way may take when the lane is given up, in seconds; then the next owner makes them again.
DRAIN_SECONDS = 3.0

#: Rows of a table to write, None where there is none any more.
Changed = dict[bytes, bytes | None]


class Lane:
    """Owns partition `number` of the events topic and of every topic that is co-partitioned with it.

    next      offset of the first record that is not processed yet
    moved_at  monotonic time of the last progress: a step of the restore, or a committed batch
    queued    other lanes are restored first, so that this one does not move yet

    `call_ended` is called when there is something to commit without new records: then work([]) commits it.
    """

    def __init__(self, number: int, site: Site, guard: Guard, call_ended: Callable[[], None]) -> None:
        self.number = number
        self.next = 0
        self.moved_at = time.monotonic()
        self.is_open = False
        self.queued = True
        self._site = site
        self._guard = guard
        self._wanted = calls.wanted(site.handlers)
        self._call_ended = call_ended
        self._calling: Calling | None = None
        self._source = TopicPartition(site.topics.events.name, number)
        self._store: Store | None = None
        self._transactions: Transactions | None = None
        self._floor = b""  # markers below are out of every window
        self._mark = Mark()  # what stands with the committed offset
        self._epoch = -1  # of the log, as far as it is known to go on from the last record
        self._noted: set[bytes] = set()  # keys of the incidents that are among the lane's rows

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
        self._transactions = Transactions(self._site.settings, self._site.group, self.number)
        await self._transactions.start()
        async with self._reader() as reader:
            committed = await self._committed()
            restored = await self._restore(reader)
            self._noted = {key for key, _ in self._opened_store.rows("incidents")}
            self.next = await self._start(reader, committed)
        self._calling = Calling(self._site.handlers, self._guard.circuits, self._opened_store, self._call_ended)
        self._calling.load()
        self._take_up_incidents()
        metrics.CALLS_OWED.labels(self.number).set(self._calling.owed)
        self.moved()
        self.is_open = True
        metrics.LANE_OPEN.labels(self.number).set(1)
        log.info(
            "lane open",
            partition=self.number,
            next=self.next,
            restored=restored,
            seconds=round(time.monotonic() - started, 3),
        )

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
        fresh = await self._fresh(span)
        end = max(span.end if span.hole is None else span.hole, self.next)
        parts: list[tuple[Sequence[Record], Mode]] = bounds.parts(fresh, self._mark.bounds) or [((), "whole")]
        ends = [*(part[0].offset for part, _ in parts[1:]), end]
        self._epoch = max(self._epoch, span.epoch)
        done = sum([await self._work(part, mode, upto) for (part, mode), upto in zip(parts, ends, strict=True)])
        if span.hole is not None:
            await self._lost(position.hole(span.hole))
        return done

    async def _work(self, fresh: Sequence[Record], mode: Mode, end: int) -> int:
        """One transaction of `work`, for records that are all treated alike, and offsets to before `end`."""
        calling = self._opened_calling
        outcomes = calling.outcomes()
        noted = guard.changes(self._noted, self._guard.circuits, moved=bool(fresh))
        if not fresh and not outcomes and not noted and end == self.next:
            return 0
        changes = self._decide(fresh, mode, end)
        if fresh and (reason := self._guard.rejections.add(len(fresh), len(changes.rejected))):
            await self._note_stop(guard.REJECTIONS, reason)
            raise TooManyRejections(_rejections(self._source, self.next, reason, changes))
        noted |= self._guard.unknown.news(changes.unknown, _now())
        settled = calls.settle(outcomes, self._site.handlers, now=_now(), chance=random.random)
        # A replay meets calls that are owed still; what was tried of them stays counted.
        owed: Changed = {call.row: calls.encode(call) for call in changes.calls if not calling.owes(call.row)}
        mark = self._marked(fresh)
        places = await self._commit(changes, settled, owed, noted, mark)
        self._remember(changes, settled.rows | owed, noted, places)
        self.next, self._mark = changes.end, mark
        self.moved()
        calling.settle(settled)
        for row in owed:
            calling.add(row)
        metrics.count(self.number, len(fresh), changes)
        metrics.count_unknown(self._guard.unknown.counted(changes.unknown))
        metrics.count_calls(self.number, settled, calling.owed)
        return len(fresh)

    def _decide(self, fresh: Sequence[Record], mode: Mode, end: int) -> Changes:
        if not fresh or mode == "skip":
            return Changes(end=end)
        state = State(self._opened_store.markers, self._opened_store.suppressions)
        changes = decide(fresh, state, wanted=self._wanted if mode == "whole" else NOBODY)
        changes.end = end  # offsets without a record may come after the last one
        return changes

    def _take_up_incidents(self) -> None:
        """Go on with what the former owner noted: a circuit that was open is probed, or has nothing to wait for."""
        for key, value in self._opened_store.rows("incidents"):
            incident = incidents.decode(value)
            circuit = self._guard.circuits.get(incident.subject)
            if incident.kind == "circuit_open" and circuit and self._opened_calling.owes_to(incident.subject):
                circuit.open(incident.since, incident.reason, probe_at=time.monotonic())
            elif key == guard.stopped(guard.REJECTIONS, "", 0).key:
                self._guard.rejections.suspect()
        metrics.count_unknown(dict.fromkeys(self._guard.unknown.take_up(self._noted), 0))
        if self._noted:
            self._call_ended()

    async def _note_stop(self, subject: str, reason: str) -> None:
        """Let people know why there will be no lane here. It is not written locally: the next owner restores it."""
        incident = guard.stopped(subject, reason, _now())
        if self._transactions is not None and incident.key not in self._noted:
            row: Row = (incident.key, incidents.encode(incident), [])
            await self._transactions.commit({self._site.topics.incidents.name: [row]}, {})

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
        if self._transactions is not None:
            transactions, self._transactions = self._transactions, None
            await transactions.stop()
        if self._store is not None:
            closing, self._store = self._store, None
            closing.close()

    async def _fresh(self, span: Span) -> Sequence[Record]:
        """The records that are to be processed, none behind a hole. Raises OffsetGap, RecordsLost."""
        if span.start > self.next:
            raise OffsetGap(
                f"{self._source.topic}-{self.number}: expected offset {self.next}, got {span.start}; "
                "starting again from the committed offset"
            )
        last = self._mark.last
        if last is not None and span.epoch > self._epoch:
            # A broker has taken the lead since. Its log may have ended earlier, and have grown beyond again.
            await self._verify(last)
        if span.start >= self.next and span.hole is None:
            return span
        # The former owner's last transaction may have landed between the consumer's seek and our fence:
        # what is below `next` is done. It is the same if a log has lost its end and is read from its beginning.
        if last is not None and last.offset < self.next:
            for record in span:
                if record.offset == last.offset and (problem := position.replaced(last, record, first=0)):
                    await self._lost(problem)
        return [record for record in span if record.offset >= self.next and record.offset < (span.hole or span.end)]

    async def _verify(self, last: Last) -> None:
        """Return only if the record that was processed last still stands where it stood. Raises RecordsLost."""
        async with self._reader() as reader:
            problem = await source.replaced(reader, self._source, last)
        if problem:
            await self._lost(problem)

    async def _lost(self, problem: str, cure: str = "") -> None:
        """Note it, and raise RecordsLost with what to do."""
        place = f"{self._source.topic}-{self.number}"
        await self._note_stop(guard.RECORDS_LOST, f"{place}: {problem}")
        raise RecordsLost(
            f"{place}: {problem}. To go on with what is there, stop all processors and type: "
            f"{cure}postlog replay --after-loss"
        )

    def _marked(self, fresh: Sequence[Record]) -> Mark:
        """What stands with the offset once these are committed; of changelogs it can only tell up to now."""
        found = marks.last_of(fresh[-1], self._epoch) if fresh else None
        return Mark(last=marks.newest(self._mark.last, found), bounds=self._mark.bounds, logs=self._reached())

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        reader = AIOKafkaConsumer(
            **kafka.client_options(self._site.settings),
            enable_auto_commit=False,
            isolation_level="read_committed",
            # A position outside of the log is for us to judge: jumping to its end would pass over what is lost.
            auto_offset_reset="none",
            max_partition_fetch_bytes=RESTORE_FETCH_BYTES,
            fetch_max_bytes=4 * RESTORE_FETCH_BYTES,
            fetch_max_wait_ms=50,
        )
        try:
            await reader.start()
            yield reader
        finally:
            # Over TLS a connection may take 30 s to be closed by both sides, and nothing here waits for that.
            await kafka.let_go(reader)

    async def _committed(self) -> int | None:
        """The committed offset, None if there is none; what stands with it is noted. Raises ForeignOffset."""
        found = await offsets.of_partition(self._site.settings, self._site.group, self._source)
        try:
            self._mark = marks.read(found.metadata)
        except ForeignOffset as error:
            raise ForeignOffset(
                f"{self._source.topic}-{self.number}: the committed offset {found.offset} is not as postlog writes "
                f"it, {error}. To start there all the same, stop all processors and type: postlog replay --after-loss"
            ) from None
        return found.offset if found.offset >= 0 else None

    async def _start(self, reader: AIOKafkaConsumer, committed: int | None) -> int:
        """The offset to go on from: the committed one, or on the very first start the oldest there is.

        Raises RecordsLost if the log, the offset and the restored state contradict each other.
        """
        used = not self._opened_store.empty()
        log_of_source = await source.check(reader, self._source, committed, self._mark.last, used=used)
        if log_of_source.problem:
            await self._lost(log_of_source.problem)
        self._epoch = log_of_source.epoch
        if problem := position.shortened(self._mark.logs, self._reached()):
            await self._lost(f"{problem}. {kept.ELSEWHERE}", "postlog replay --rebuild, and then ")
        return position.start_of(committed, first=log_of_source.first)

    def _reached(self) -> dict[str, int]:
        """By table, up to where its changelog is in the store."""
        tables = self._site.changelogs(self.number).items()
        return {table: self._opened_store.position(tp.topic) or 0 for tp, table in tables}

    async def _restore(self, reader: AIOKafkaConsumer) -> int:
        """Open the store and bring it to the changelogs' end; the number of rows that were read. Raises StateLost."""
        try:
            self._store, restored = await kept.opened(reader, self._site, self.number, self.moved)
        except StateLost as error:
            self._noted = set(error.noted)
            raise await self._state_lost(error) from None
        return restored

    async def _state_lost(self, error: StateLost) -> StateLost:
        """Note that the changelogs know less than we do; the error to raise."""
        await self._note_stop(guard.RECORDS_LOST, f"partition {self.number}: {error}")
        return StateLost(f"partition {self.number}: {error}. {kept.CURE}")

    @property
    def _opened_store(self) -> Store:
        if self._store is None:
            raise LaneClosed(f"lane {self.number} is not open")
        return self._store

    @property
    def _opened_calling(self) -> Calling:
        if self._calling is None:
            raise LaneClosed(f"lane {self.number} is not open")
        return self._calling

    async def _commit(
        self, changes: Changes, settled: Settled, owed: Changed, noted: Changed, mark: Mark
    ) -> dict[str, Place]:
        """One transaction; the places in the changelogs after it, by topic. Raises StateLost."""
        if self._transactions is None:
            raise LaneClosed(f"lane {self.number} is not open")
        topics = self._site.topics
        rows: dict[str, list[Row]] = {
            topics.seen.name: [(None, page, []) for page in dedup.pages(changes.seen)],
            topics.suppressions.name: _rows(changes.suppressions),
            topics.calls.name: _rows(settled.rows | owed),
            topics.incidents.name: _rows(noted),
            topics.dead_letters.name: self._letters(changes, settled),
        }
        end = OffsetAndMetadata(changes.end, marks.write(mark, changes.end))
        behind = {getattr(topics, table).name: reached for table, reached in mark.logs.items()}
        try:
            places = await self._transactions.commit(
                rows, {self._source: end} if changes.end > self.next else {}, behind
            )
        except StateLost as error:
            raise await self._state_lost(error) from None
        metrics.TRANSACTIONS.inc()
        places.pop(topics.dead_letters.name, None)  # no changelog of ours
        return places

    def _letters(self, changes: Changes, settled: Settled) -> list[Row]:
        now, topic, group = _now(), self._source.topic, self._site.group
        rejected = letters.of_rejected(changes.rejected, topic=topic, partition=self.number, group=group, now=now)
        return rejected + letters.of_used_up(settled.dead, topic=topic, partition=self.number, group=group, now=now)

    def _remember(self, changes: Changes, calls_changed: Changed, noted: Changed, places: dict[str, Place]) -> None:
        """Write to the local store what the transaction just made true."""
        floor = dedup.floor(changes.newest)
        drop = None
        if floor > self._floor:
            drop = self._floor = floor
        rows: dict[Table, Iterable[tuple[bytes, bytes | None]]] = {
            "seen": changes.seen.items(),
            "suppressions": changes.suppressions.items(),
            "calls": calls_changed.items(),
            "incidents": noted.items(),
        }
        self._opened_store.write(rows, places, drop_markers_below=drop)
        self._guard.unknown.take_up(noted)
        self._noted = {*self._noted, *noted} - {key for key, value in noted.items() if value is None}


def _now() -> int:
    return int(time.time() * 1000)


def _rows(changed: Mapping[bytes, bytes | None]) -> list[Row]:
    return [(key, value, []) for key, value in changed.items()]


def _rejections(source: TopicPartition, offset: int, reason: str, changes: Changes) -> str:
    """Why the processor stops at an offset instead of emptying the topic into the dead letters, and what to do."""
    record, error = changes.rejected[0].record, changes.rejected[0].error
    return (
        f"{source.topic}-{source.partition}: {reason}, so nothing from offset {offset} on is committed; the first is "
        f"offset {record.offset}: {error}. Is this the right topic, and does this release fit who writes there? "
        "If the records are what is wrong, start once with PROCESSOR_MAX_REJECTED_SHARE=1"
    )
