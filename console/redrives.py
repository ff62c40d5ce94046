"""What a dead letter becomes when it is sent round again.

Pure. A record goes back to where its event first stood, as it was, with that place in a header: the processor then
takes it for that very record and not for a duplicate of it. An event whose recipient an earlier release could not
read goes where that address belongs, if this one can. A delivery that never became a record is read again with the
provider's reader of today; its events carry the provider's ids, so what arrived meanwhile makes them duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ingress import accept
from ingress.accept import Outgoing
from ingress.delivery import Delivery
from ingress.providers import PROVIDERS
from pipeline import contract, deadletter
from pipeline.contract import Event, Headers, Position, Record
from pipeline.deadletter import DeadLetter
from pipeline.errors import LetterRefused, Undecodable
from pipeline.topics import Topic


@dataclass(frozen=True, slots=True)
class Sending:
    """A record for the events topic."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Again:
    """What a letter becomes.

    left  why a part of it cannot be sent, so that the letter stays open; empty if all of it is sent
    """

    records: list[Sending]
    left: str = ""


def again(record: Record, *, events: Topic, redrives: int, fresh_trace: str) -> Again:
    """The records that this dead letter becomes; a delivery becomes one for each of its events, however many.

    record       the letter's latest failure
    redrives     how often it was sent round, this time included
    fresh_trace  the traceparent to use if the delivery brought none

    Raises LetterRefused.
    """
    letter = deadletter.read(record)
    if letter.origin is None:
        return _read_again(record, letter, events, fresh_trace)
    source = events.name if letter.source is None else letter.source.topic
    return Again([_as_it_was(record, source, letter.origin, events, redrives)])


def _as_it_was(record: Record, source: str, origin: tuple[int, Position], events: Topic, redrives: int) -> Sending:
    partition, _ = origin
    if source != events.name:
        raise LetterRefused(f"it came from the topic {source!r}, and redrives go to {events.name} alone")
    if not 0 <= partition < events.partitions:
        raise LetterRefused(f"it came from partition {partition}, and {events.name} has {events.partitions}")
    if record.key is None and record.value is None:
        raise LetterRefused("it has neither key nor value, so there is nothing to send")
    headers = deadletter.redrive_headers(record.headers, origin, redrives)
    if (event := _named_now(record, origin)) is None:
        return Sending(partition, record.key, record.value, headers)
    # It is a new record there: its place elsewhere says nothing about what this partition has seen.
    headers = [(name, value) for name, value in headers if name != contract.HEADER_ORIGIN]
    key = contract.key(event)
    return Sending(contract.partition_of(key, events.partitions), key, contract.encode(event), headers)


def _named_now(record: Record, origin: tuple[int, Position]) -> Event | None:
    """The event with its recipient, if that could not be read when it came and can be now; else None."""
    try:
        event = contract.decode(record.value)
    except Undecodable:
        return None
    email = contract.address(event.email_given) if event.email is None and event.email_given else None
    if email is None:
        return None
    # A fact that is read late must not count as newer than it was.
    at = origin[1].at
    return msgspec.structs.replace(event, email=email, arrived_at=min(at, event.arrived_at or at))


def _read_again(record: Record, letter: DeadLetter, events: Topic, fresh_trace: str) -> Again:
    provider = PROVIDERS.get(letter.provider)
    if provider is None:
        raise LetterRefused(f"this postlog has no reader for the provider {letter.provider!r}")
    outgoing = accept.records(
        provider, _delivery(record, letter), fresh_trace=fresh_trace, arrived_at=max(record.timestamp, 0)
    )
    readable = [made for made in outgoing if made.topic == "events"]
    left = _left(record, [made for made in outgoing if made.topic != "events"], len(outgoing))
    if not readable:
        raise LetterRefused(left or "it is readable now and tells of no event: discard it")
    # Of the partitions that topics.yaml counts: the cluster may have more, which nobody reads.
    return Again(
        [
            Sending(contract.partition_of(made.key or b"", events.partitions), made.key, made.value, made.headers)
            for made in readable
        ],
        left,
    )


def _left(record: Record, unreadable: Sequence[Outgoing], events: int) -> str:
    """Why some or all of a delivery's events stay in their letter; empty if none does."""
    if not unreadable:
        return ""
    first = _Made(record.offset, record.timestamp, None, None, unreadable[0].headers)
    message = deadletter.read(first).message
    if len(unreadable) == events:
        return f"it is still unreadable: {message}; correct the reader, or discard it"
    return (
        f"{len(unreadable):,} of its {events:,} events are still unreadable, the first: {message}; "
        "the others are sent. Correct the reader, or discard it"
    )


def _delivery(record: Record, letter: DeadLetter) -> Delivery:
    found = dict(record.headers)
    kept = {"content-type": deadletter.CONTENT_TYPE, contract.HEADER_TRACE: contract.HEADER_TRACE}
    headers = {name: found[header].decode(errors="replace") for name, header in kept.items() if header in found}
    body = record.value or b""
    # All its events, however many: each takes a byte at least.
    return Delivery("POST", headers, body, received_at=letter.first_failure, most_events=len(body))


@dataclass(frozen=True, slots=True)
class _Made:
    """A record that exists only here."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
