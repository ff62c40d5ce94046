"""What follows from a batch of one partition's records: the heart of the processor.

Pure but for the state it looks up: batch + state → changes, which the lane commits in one transaction. What always
holds: the changes depend on the log and the table of types alone (no clock but the records'), every record of the
batch is either processed, counted as a duplicate, or a dead letter, and deciding a batch in one piece or in many
leaves the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from pipeline import contract, suppression
from pipeline.contract import Event, Position, Record
from pipeline.errors import NoRecipient, PostlogError, Undecodable
from pipeline.providers import TYPES, Types, as_it_means_now
from pipeline.suppression import Facts, Suppression
from processor import calls, dedup, suppressions
from processor.calls import Call, Wanted
from processor.dedup import Verdict

#: Values of many keys at once, None where there is none; the shell's RocksDB, or a dict in tests.
Find = Callable[[list[bytes]], Sequence[bytes | None]]
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
    newest        latest arrival in the batch, ms: buckets two windows behind it can go
    """

    end: int
    newest: int = 0
    seen: dict[bytes, bytes] = field(default_factory=dict)
    suppressions: dict[bytes, bytes] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    processed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (provider, type)
    duplicates: Counter[tuple[str, str]] = field(default_factory=Counter)  # (provider, age)


class _Entry:
    """One decoded record and the keys of the state it needs."""

    __slots__ = ("before", "event", "here", "place", "record")

    def __init__(self, record: Record, event: Event, place: Position, here: bytes, before: bytes) -> None:
        self.record = record
        self.event = event
        self.place = place
        self.here = here
        self.before = before


def decide(records: Sequence[Record], state: State, *, types: Types = TYPES, wanted: Wanted = NOBODY) -> Changes:
    """The changes that follow from a batch of contiguous records of one partition; not empty.

    types   what the providers' words mean now, which goes before what they meant when the record was written
    wanted  which handlers want which type
    """
    changes = Changes(end=records[-1].offset + 1)
    entries = _read(records, types, changes)
    fresh = _drop_duplicates(entries, state.markers, changes)
    heard = _with_recipient(fresh, changes)
    _suppress(heard, state.suppressions, changes)
    if wanted:
        for entry in heard:
            changes.calls += calls.owed(entry.event, entry.record, wanted)
    return changes


def _read(records: Sequence[Record], types: Types, changes: Changes) -> list[_Entry]:
    """Decode every record; what does not decode is rejected, the rest is returned in order."""
    decode, origin, digest, key = contract.decode, contract.origin, dedup.digest, dedup.key
    entries = []
    newest = 0
    for record in records:
        try:
            event = as_it_means_now(decode(record.value), types)
            place = origin(record)
        except Undecodable as error:
            changes.rejected.append(Rejected(record, error))
            continue
        bucket = dedup.bucket(place.at)
        newest = max(newest, record.timestamp)
        identity = digest(event.provider, event.id)
        entries.append(_Entry(record, event, place, key(bucket, identity), key(max(bucket - 1, 0), identity)))
    changes.newest = newest
    return entries


def _drop_duplicates(entries: list[_Entry], find: Find, changes: Changes) -> list[_Entry]:
    """The entries that are not duplicates, their markers noted in the changes."""
    here, before = (find([e.here for e in entries]), find([e.before for e in entries])) if entries else ((), ())
    written = changes.seen
    fresh = []
    for entry, stored_here, stored_before in zip(entries, here, before, strict=True):
        # What this batch wrote already is newer than what the store has.
        marker = written.get(entry.here) or stored_here
        older = written.get(entry.before) or stored_before
        verdict = Verdict.FIRST
        if marker is not None or older is not None:
            markers = [dedup.unpack(m) for m in (marker, older) if m is not None]
            verdict = dedup.judge(entry.place, markers)
            if verdict is Verdict.DUPLICATE:
                age = entry.place.at - min(m.at for m in markers)
                changes.duplicates[entry.event.provider, age_label(age)] += 1
                continue
        if verdict is Verdict.FIRST:
            written[entry.here] = dedup.pack(entry.place)
        fresh.append(entry)
    return fresh


def _with_recipient(fresh: list[_Entry], changes: Changes) -> list[_Entry]:
    """Count the entries that name somebody, and reject the others."""
    heard = []
    for entry in fresh:
        if entry.event.email is None:
            changes.rejected.append(Rejected(entry.record, _no_recipient(entry.event)))
        else:
            changes.processed[entry.event.provider, entry.event.type.value] += 1
            heard.append(entry)
    return heard


def _suppress(heard: list[_Entry], find: Find, changes: Changes) -> None:
    """Join what the events say into the list."""
    speaking: dict[str, Facts] = {}
    for entry in heard:
        event = entry.event
        if event.type in suppressions.SPEAKING and event.email is not None:
            said = suppressions.facts_of(event)
            known = speaking.get(event.email)
            speaking[event.email] = said if known is None else suppressions.join(known, said)
    addresses = [email.encode() for email in speaking]
    stored = find(addresses) if addresses else ()
    for (email, said), address, value in zip(speaking.items(), addresses, stored, strict=True):
        known = Facts() if value is None else suppression.decode(value).facts
        joined = suppressions.join(known, said)
        if joined != known:
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
