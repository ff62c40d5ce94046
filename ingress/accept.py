"""What a delivery becomes: records for Kafka, or a refusal.

Pure. Every event of an authentic delivery becomes exactly one record, an event or a dead letter, so 200 can mean
that all of it is kept. One that tells of no events becomes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ingress.delivery import Delivery, Garbled, Told
from ingress.providers import Provider
from pipeline import contract, deadletter
from pipeline.contract import LONGEST_TEXT, Event, EventType
from pipeline.errors import TooManyEvents, Unreadable

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

#: 2000-01-01 in ms since the epoch. Nobody sent mail with webhooks before: an older time is a field that was left at
#: nothing, or seconds that were taken for milliseconds.
OLDEST_TIME = 946_684_800_000
#: Records of one delivery that wait for Kafka at once.
PART = 2_500


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A record to produce. topic is a role of topics.yaml; type is for counting."""

    topic: Literal["events", "dead_letters"]
    type: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


def records(
    provider: Provider, delivery: Delivery, *, fresh_trace: str, arrived_at: int | UnsetType = UNSET
) -> list[Outgoing]:
    """The records of an authentic delivery. What cannot be understood becomes a dead letter.

    fresh_trace  the traceparent to use if the delivery brings none that is well formed
    arrived_at   when the log took the delivery as a dead letter, in ms; UNSET if it comes for the first time. A fact
                 that is read late must not count as newer than it was

    Raises TooManyEvents, and nothing else.
    """
    given = delivery.headers.get(contract.HEADER_TRACE, "")
    trace = given if _TRACEPARENT.fullmatch(given) else fresh_trace
    told: Sequence[Told | Garbled]
    try:
        told = provider.read(delivery)
    except Unreadable as error:
        told = [Garbled(error, delivery.body)]
    except TooManyEvents:
        raise
    except Exception as error:
        # A bug in a reader must not lose the delivery, nor make the provider send it for ever.
        told = [Garbled(Unreadable(f"the reader failed: {error!r}"), delivery.body)]
    return [_outgoing(provider, delivery, item, trace, arrived_at) for item in told]


def parts(records: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """The records of a delivery in parts of PART, in order: one that has many must not fill what others wait for."""
    for start in range(0, len(records), PART):
        yield records[start : start + PART]


def _outgoing(
    provider: Provider, delivery: Delivery, item: Told | Garbled, trace: str, arrived_at: int | UnsetType
) -> Outgoing:
    if isinstance(item, Told):
        try:
            event = event_of(provider, item, delivery.received_at, arrived_at)
        except Unreadable as error:
            item = Garbled(error, item.raw)
        else:
            headers = contract.headers(event, trace)
            return Outgoing("events", event.type, contract.key(event), contract.encode(event), headers)
    headers = [
        (contract.HEADER_PROVIDER, provider.name.encode()),
        (contract.HEADER_TRACE, trace.encode()),
        (deadletter.CONTENT_TYPE, delivery.content_type.encode(errors="replace")),
        *deadletter.headers(item.error, stage="ingress", now=delivery.received_at),
    ]
    return Outgoing("dead_letters", "unreadable", None, item.raw, headers)


def event_of(provider: Provider, told: Told, received_at: int, arrived_at: int | UnsetType = UNSET) -> Event:
    """Our words for what a provider told. An id that is too long to carry is none, and costs nothing else.

    Raises Unreadable for another text that is too long.
    """
    for field, text in (("type", told.type), ("email", told.recipient)):
        if text is not None and len(text) > LONGEST_TEXT:
            raise Unreadable(f"{field}: longer than {LONGEST_TEXT} characters")
    given = told.id if told.id and len(told.id) <= LONGEST_TEXT else None
    trusted = given if provider.trust_id else None
    return Event(
        provider=provider.name,
        type=provider.types.get(told.type, EventType.UNKNOWN),
        provider_type=told.type,
        id=trusted or contract.fingerprint(provider.name.encode(), told.raw),
        id_basis="id" if trusted else "fingerprint",
        provider_event_id=given,
        email=None if told.recipient is None else contract.address(told.recipient),
        email_given=told.recipient,
        occurred_at=_possible(told.occurred_at),
        received_at=received_at,
        arrived_at=arrived_at,
        raw=msgspec.Raw(told.raw),
    )


def _possible(occurred_at: int | None) -> int | None:
    """The time, None if it cannot be true: an older word would stand against what it is the time of."""
    return None if occurred_at is None or occurred_at < OLDEST_TIME else occurred_at
