"""What follows from a batch of one partition's records: the heart of the processor.

Pure but for the state it looks up: batch + state → changes, which the lane commits in one transaction. What always
holds: the changes depend on the log and the table of types alone (no clock but the records'), every record of the
batch is either processed, counted as a duplicate, or a dead letter, and deciding a batch in one piece or in many
leaves the same state. A duplicate that only looks like one still suppresses: see `_may_be_new`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from pipeline import suppression
from pipeline.contract import Event, EventType, Position, Record, decode, origin
from pipeline.errors import NoRecipient, PostlogError, Undecodable
from pipeline.providers import TYPES, Types, as_it_means_now
from pipeline.suppression import Facts, Suppression
from processor import calls, dedup, suppressions
from processor.calls import Call, Wanted
from processor.dedup import Verdict, digest
from processor.suppressions import SPEAKING, SUPPRESSING

#: Values of many keys at once, None where there is none; the shell's RocksDB, or a dict in tests.
Find = Callable[[list[bytes]], Sequence[bytes | None]]
#: A decoded record, and where its event first stood in the log. A tuple: there are a hundred thousand a second.
_Entry = tuple[Record, Event, Position]
#: No handler is plugged in.
NOBODY: Wanted = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class State:
    """Where the current markers and suppressions can be looked up."""

    markers: Find
    suppressions: Find


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that becomes a dead letter, and why."""

    record: Record
    error: PostlogError


@dataclass(slots=True)
class Changes:
    """What one transaction holds.

    end           the source offset to commit: one past the last record of the batch
    seen          markers to write, by changelog key
    suppressions  entries of the list to write, by address
    calls         calls of handlers that the events make us owe, in the order of the log
    unknown       events of types that no table knows, by provider and its word
    repeated      duplicates that may be new facts: nothing follows from them but what they say against mailing
    newest        latest arrival in the batch, ms: buckets two windows behind it can go
    """

    end: int
    newest: int = 0
    seen: dict[bytes, bytes] = field(default_factory=dict)
    suppressions: dict[bytes, bytes] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    repeated: list[_Entry] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    processed: Counter[tuple[str, EventType]] = field(default_factory=Counter)  # (provider, type)
    duplicates: Counter[tuple[str, str]] = field(default_factory=Counter)  # (provider, age)

    def leave_out(self, copies: Callable[[Record], bool]) -> None:
        """Owe no call for these records, and make no dead letter of them."""
        self.rejected = [each for each in self.rejected if not copies(each.record)]
        self.calls = [call for call in self.calls if not copies(call)]


class _Read(NamedTuple):
    """What could be decoded of a batch, in order, and the keys of its markers: in the bucket and the one before."""

    entries: list[_Entry]
    here: list[bytes]
    before: list[bytes]


def decide(records: Sequence[Record], state: State, *, types: Types = TYPES, wanted: Wanted = NOBODY) -> Changes:
    """The changes that follow from a batch of contiguous records of one partition; not empty.

    types   what the providers' words mean now, which goes before what they meant when the record was written
    wanted  which handlers want which type
    """
    changes = Changes(end=records[-1].offset + 1)
    fresh = _drop_duplicates(_read(records, types, changes), state.markers, changes)
    heard = _heard(fresh, changes)
    _suppress(chain(heard, changes.repeated), state.suppressions, changes)
    if wanted:
        for record, event, _ in heard:
            if event.email is not None:
                changes.calls += calls.owed(event, record, wanted)
    return changes


def _read(records: Sequence[Record], types: Types, changes: Changes) -> _Read:
    """Decode every record; what does not decode is rejected, the rest is returned in order."""
    read = _Read([], [], [])
    entries, here, before = read
    bucket, this, former = -1, b"", b""
    for record in records:
        try:
            event = as_it_means_now(decode(record.value), types)
            place = origin(record)
        except Undecodable as error:
            changes.rejected.append(Rejected(record, error))
            continue
        if bucket != (bucket := dedup.bucket(place.at)):
            this, former = dedup.first_key(bucket), dedup.first_key(bucket - 1)
        identity = digest(event.provider, event.id)
        entries.append((record, event, place))
        here.append(this + identity)
        before.append(former + identity)
    changes.newest = max([record.timestamp for record, _, _ in entries], default=0)
    return read


def _drop_duplicates(read: _Read, find: Find, changes: Changes) -> list[_Entry]:
    """The entries that are not duplicates, their markers noted in the changes."""
    if not read.entries:
        return []
    written, fresh = changes.seen, []
    stored = zip(find(read.here), find(read.before), strict=True)
    for entry, here, before, (marker, older) in zip(*read, stored, strict=True):
        # What this batch wrote already is newer than what the store has.
        marker = written.get(here, marker)
        older = written.get(before, older)
        if marker is None and older is None:
            written[here] = dedup.pack(entry[2])
        elif not _comes_again(entry, [dedup.unpack(m) for m in (marker, older) if m is not None], here, changes):
            continue
        fresh.append(entry)
    return fresh


def _comes_again(entry: _Entry, markers: list[Position], here: bytes, changes: Changes) -> bool:
    """Whether to process an event that was seen; a duplicate is counted, and the marker moved if that is due."""
    _, event, place = entry
    verdict = dedup.judge(place, markers)
    if verdict is Verdict.DUPLICATE:
        changes.duplicates[event.provider, age_label(place.at - min(m.at for m in markers))] += 1
        if _may_be_new(event):
            changes.repeated.append(entry)
        return False
    if verdict is Verdict.FIRST:
        changes.seen[here] = dedup.pack(place)
    return True


def _may_be_new(event: Event) -> bool:
    """Whether a duplicate may tell of something that happened again, and to take it for that is the safe side.

    An event without an id is known by its bytes alone, and the same bytes may say that an address bounced once more:
    after a `subscribed`, or after an operator's word, that must not be lost. One that lifts a suppression must not be
    applied again: it may be a late repeat. One with an id is that event, whatever it says.
    """
    return event.id_basis == "fingerprint" and event.type in SUPPRESSING


def _heard(fresh: list[_Entry], changes: Changes) -> list[_Entry]:
    """Count the entries that name somebody, and reject the others; of a type that nobody knows it is not expected."""
    heard = [entry for entry in fresh if entry[1].email is not None or entry[1].type is EventType.UNKNOWN]
    if len(heard) < len(fresh):
        nobodys = [entry for entry in fresh if entry[1].email is None and entry[1].type is not EventType.UNKNOWN]
        changes.rejected += [Rejected(record, _no_recipient(event)) for record, event, _ in nobodys]
    changes.processed.update([(event.provider, event.type) for _, event, _ in heard])
    if any(kind is EventType.UNKNOWN for _, kind in changes.processed):
        unknown = [event for _, event, _ in heard if event.type is EventType.UNKNOWN]
        changes.unknown.update([(event.provider, event.provider_type) for event in unknown])
    return heard


def _suppress(heard: Iterable[_Entry], find: Find, changes: Changes) -> None:
    """Join what the events say into the list."""
    speaking: dict[str, Facts] = {}
    for _, event, place in heard:
        if event.type in SPEAKING and event.email is not None:
            said = suppressions.facts_of(event, place.at)
            known = speaking.get(event.email)
            speaking[event.email] = said if known is None else suppressions.join(known, said)
    addresses = [email.encode() for email in speaking]
    stored = find(addresses) if addresses else ()
    for (email, said), address, value in zip(speaking.items(), addresses, stored, strict=True):
        before = Facts() if value is None else suppression.decode(value).facts
        joined = suppressions.join(before, said)
        if joined != before:
            changes.suppressions[address] = suppression.encode(Suppression.of(email, joined))


def _no_recipient(event: Event) -> NoRecipient:
    if event.email_given is None:
        return NoRecipient("email: the event names no recipient")
    return NoRecipient("email: what the event names as recipient is no address mail could go to")


def age_label(age_ms: int) -> str:
    """How old the original of a duplicate is, as one of four label values."""
    for limit, label in ((60_000, "minute"), (3_600_000, "hour"), (86_400_000, "day")):
        if age_ms < limit:
            return label
    return "window"
