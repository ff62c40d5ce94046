"""The state of one lane, worked out anew from the log, beside the one that processors work with.

A shell. It reads what processors have read, decides as they do, calls no handler, writes no dead letter and moves no
offset. Then it fences the lane and commits how the result differs, in one transaction: whoever owns the lane next,
and whoever follows the list, reads it as any other change. See docs/decisions/0012.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipeline import contract, kafka, offsets, suppression
from pipeline.contract import Event, Record
from pipeline.errors import OffsetGap, TooManyRejections, Undecodable
from pipeline.settings import Settings
from pipeline.suppression import Facts, Suppression
from pipeline.topics import Topics
from processor import changelog, dedup, difference, fetches, former, letters, suppressions
from processor.decide import Changes, State, decide
from processor.difference import Counts, Difference, Row
from processor.fetches import Span
from processor.guard import Rejections
from processor.store import Store, Table, open_store
from processor.transaction import LONGEST_TIMEOUT_MS, Transactions

fetches.install()

FETCH_BYTES = 8 * 1024 * 1024
#: Rows of the former state that are looked at in one go.
SLICE = 10_000
#: How far a clock may have been ahead of the broker's, in ms: a fact of an expired record may be of a later time, if
#: a former release wrote it.
CLOCK_MARGIN_MS = 86_400_000
#: Later than everything, in ms.
NEVER = 2**62


class Rebuild:
    """An async context manager. First `begin`, then `follow` as often as one likes, `fence`, then `join_former` over
    all lanes if one likes, `compare`, `commit`, and `drop_former`.

    next  offset of the first record that it has not read yet
    """

    def __init__(
        self, number: int, settings: Settings, topics: Topics, group: str, folder: Path, *, forget_expired: bool
    ) -> None:
        """forget_expired  also drop what follows from records that are not on the log any more"""
        self.number = number
        self.next = 0
        self._settings = settings
        self._topics = topics
        self._group = group
        self._folder = folder
        self._forget_expired = forget_expired
        self._source = TopicPartition(topics.events.name, number)
        self._rejections = Rejections(settings.processor_max_rejected_share)
        self._floor = b""
        self._exits = AsyncExitStack()
        self._was: Store
        self._now: Store
        self._reader: AIOKafkaConsumer
        self._transactions: Transactions
        self._difference = Difference()
        self._former: set[bytes] = set()  # keys whose facts another key has now
        self._nobodys = 0

    async def __aenter__(self) -> Rebuild:
        self._was = open_store(self._folder / f"was-{self.number}")
        self._exits.callback(self._was.close)
        self._now = open_store(self._folder / f"now-{self.number}")
        self._exits.callback(self._now.close)
        self._reader = AIOKafkaConsumer(
            **kafka.client_options(self._settings),
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=50,
        )
        self._exits.push_async_callback(self._reader.stop)
        await self._reader.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def begin(self) -> None:
        """Read the state that processors work with, and keep what the log cannot tell any more."""
        await self._restore(fenced=False)
        first: int = (await self._reader.beginning_offsets([self._source]))[self._source]
        self.next = first
        if first and not self._forget_expired:
            self._keep(first, await self._arrival_of(first))

    @property
    def used(self) -> bool:
        """Whether there is any state to compare with."""
        return not self._was.empty()

    async def follow(self, end: int, moved: Callable[[int], None]) -> None:
        """Read and decide up to that offset; `moved` is called with the number of records of every step.

        Raises OffsetGap if the log has lost records meanwhile, TooManyRejections if most records cannot be read.
        """
        if self.next >= end:
            return
        async for span in self._spans():
            if span.start > self.next or span.hole is not None:
                raise OffsetGap(f"{self._name}: expected offset {self.next}, got {span.start}: try again")
            if records := [record for record in span if self.next <= record.offset < end]:
                self._apply(records)
            before, self.next = self.next, min(span.end, end)
            moved(self.next - before)
            if self.next >= end:
                return

    def _apply(self, records: Sequence[Record]) -> None:
        changes = decide(records, State(self._now.markers, self._now.suppressions))
        if reason := self._rejections.add(len(records), len(changes.rejected)):
            raise TooManyRejections(_rejections(self._name, reason, changes))
        floor = dedup.floor(changes.newest)
        drop = floor if floor > self._floor else None
        self._floor = max(floor, self._floor)
        rows: dict[Table, Iterable[tuple[bytes, bytes | None]]] = {
            "seen": changes.seen.items(),
            "suppressions": changes.suppressions.items(),
        }
        self._now.write(rows, {}, drop_markers_below=drop)

    async def fence(self) -> None:
        """End what any owner of the lane might still commit; until a processor starts, nobody but us can."""
        self._transactions = Transactions(self._settings, self._group, self.number, timeout_ms=LONGEST_TIMEOUT_MS)
        self._exits.push_async_callback(self._transactions.stop)
        await self._transactions.start()

    def take_former(self) -> list[former.Entry]:
        """Take the entries under a former key out of the new state, for somebody else to put under today's.

        Those that are no address any more stay: nobody can say whom they are about.
        """
        taken, self._nobodys = former.entries(self._now.rows("suppressions"))
        self._former = {entry.key for entry in taken}
        self._now.write({"suppressions": [(key, None) for key in self._former]}, {})
        return taken

    def join(self, email: str, facts: Facts) -> bool:
        """Join facts into the entry of an address of this lane; whether it did not have them all."""
        key = email.encode()
        (value,) = self._now.suppressions([key])
        before = Facts() if value is None else suppression.decode(value).facts
        joined = suppressions.join(before, facts)
        if joined != before:
            row = suppression.encode(Suppression.of(email, joined))
            self._now.write({"suppressions": [(key, row)]}, {})
        return joined != before

    async def compare(self) -> Counts:
        """How the state differs from the one that processors work with; both at the same offset, once fenced."""
        await self._restore(fenced=True)
        sides = self._was.rows("suppressions"), self._now.rows("suppressions")
        listed, dropped, counts = difference.of_lists(*sides, self._former)
        seen = {key: new for key, _, new in difference.changed(self._markers(self._was), self._markers(self._now))}
        self._difference = Difference(listed, seen, dropped)
        return counts + Counts(markers=len(seen), nobodys=self._nobodys)

    async def commit(self) -> None:
        """Make the difference true, as a whole. Raises Fenced if a processor was started, and KafkaError."""
        await self._write({"suppressions": self._difference.suppressions, "seen": self._difference.seen})

    async def drop_former(self) -> None:
        """Delete the entries under former keys, once every lane has committed what they say. Raises as `commit`."""
        await self._write({"suppressions": dict.fromkeys(self._difference.former)})

    async def _write(self, changed: Mapping[Table, Mapping[bytes, bytes | None]]) -> None:
        rows: dict[str, list[letters.Row]] = {
            getattr(self._topics, table).name: [(key, value, []) for key, value in several.items()]
            for table, several in changed.items()
        }
        if any(rows.values()):
            await self._transactions.commit(rows, await self._place())

    async def _place(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """The offset to commit: none, unless the lane never had one. With a state, that would pass for forgotten."""
        found = await offsets.of_partition(self._settings, self._group, self._source)
        return {} if found.offset >= 0 else {self._source: OffsetAndMetadata(self.next, "")}

    @property
    def _name(self) -> str:
        return f"{self._source.topic}-{self.number}"

    async def _restore(self, *, fenced: bool) -> None:
        tables: tuple[Table, ...] = ("seen", "suppressions")
        partitions: dict[TopicPartition, Table] = {
            TopicPartition(getattr(self._topics, table).name, self.number): table for table in tables
        }
        await changelog.restore(self._reader, self._was, partitions, lambda: None, fenced=fenced)

    async def _spans(self) -> AsyncIterator[Span]:
        """What is on the log from `next` on."""
        self._reader.assign([self._source])
        self._reader.seek(self._source, self.next)
        while True:
            fetched = await self._reader.getmany(timeout_ms=500, max_records=self._settings.processor_max_batch)
            for records in fetched.values():
                yield fetches.span_of(records)
            # Ends of transactions are read and not handed out.
            if not fetched and (position := await self._reader.position(self._source)) > self.next:
                yield Span([], self.next, position)
            # Prefetched records come without any waiting, and others have their turn.
            await asyncio.sleep(0)

    async def _arrival_of(self, offset: int) -> int:
        """When the record at this offset arrived, in ms; NEVER if the log is empty."""
        end: int = (await self._reader.end_offsets([self._source]))[self._source]
        if end <= offset:
            return NEVER
        self._reader.assign([self._source])
        self._reader.seek(self._source, offset)
        record = await self._reader.getone()
        arrived: int = record.timestamp
        return arrived

    def _keep(self, first: int, horizon: int) -> None:
        """Begin with what is older than the log: markers of records before `first`, facts from before `horizon`."""
        rows: dict[Table, list[Row]] = {"seen": [], "suppressions": []}
        for key, value in self._was.rows("seen"):
            if len(value) == dedup.MARKER_BYTES and dedup.unpack(value).offset < first:
                rows["seen"].append((key, value))
            self._flush(rows, SLICE)
        for key, value in self._was.rows("suppressions"):
            rows["suppressions"] += _older(key, value, horizon + CLOCK_MARGIN_MS)
            self._flush(rows, SLICE)
        self._flush(rows, 1)

    def _flush(self, rows: dict[Table, list[Row]], least: int) -> None:
        if sum(map(len, rows.values())) >= least:
            self._now.write(rows, {})
            for several in rows.values():
                several.clear()

    def _markers(self, store: Store) -> Iterator[Row]:
        # Older ones are out of every window, and retention removes them.
        return ((key, value) for key, value in store.rows("seen") if key >= self._floor)


def join_former(lanes: Sequence[Rebuild], now: int) -> list[Event]:
    """Put what former keys say under today's, which may be of another lane; the events that tell the log of it.

    lanes  all of them, by their numbers
    now    ms; what is told again counts from its own time, but never after that
    """
    told: list[Event] = []
    for entry in [entry for lane in lanes for entry in lane.take_former()]:
        events = former.told_again(entry.email, entry.facts, now)
        home = lanes[contract.partition_of(entry.email.encode(), len(lanes))]
        if home.join(entry.email, former.facts_of(events, now)):
            told += events
    return told


def _older(key: bytes, value: bytes, horizon: int) -> list[Row]:
    """The entry that follows from what happened before the horizon, if anything did."""
    try:
        known = suppression.decode(value)
    except Undecodable:
        return []
    facts = suppressions.before(known.facts, horizon)
    return [] if facts == Facts() else [(key, suppression.encode(Suppression.of(known.email, facts)))]


def _rejections(name: str, reason: str, changes: Changes) -> str:
    record, error = changes.rejected[0].record, changes.rejected[0].error
    return (
        f"{name}: {reason} by a processor of this release, so nothing was changed; the first is offset "
        f"{record.offset}: {error}. Is this the right topic and release? If the records are what is wrong, repeat "
        "the command with PROCESSOR_MAX_REJECTED_SHARE=1"
    )
