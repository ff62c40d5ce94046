"""What a record on the events topic looks like, and who an event is about.

Pure. The ingress encodes, everybody else decodes; nobody else spells a field or a header.
What always holds: `decode(encode(event)) == event`, the key of a record follows from its event alone
(one function, so one address is always in one partition), and a record that does not decode is
refused with the field and the reason, never guessed at.
"""

from __future__ import annotations

import enum
import hashlib
import re
import struct
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipeline.addresses import LONGEST_ADDRESS as LONGEST_ADDRESS
from pipeline.addresses import address as address
from pipeline.errors import Undecodable

SCHEMA_VERSION: Literal[1] = 1

#: Longest text we take from a provider as an id, a type or an address. It bounds the record: raw event plus these.
LONGEST_TEXT = 1024

HEADER_TYPE = "postlog-type"
HEADER_PROVIDER = "postlog-provider"
HEADER_ID = "postlog-id"
HEADER_SCHEMA = "postlog-schema"
HEADER_TRACE = "traceparent"  # https://www.w3.org/TR/trace-context/#traceparent-header
#: Where this event stood in the log first, as `partition:offset:timestamp`, on a record that was sent round again.
HEADER_ORIGIN = "postlog-origin"

Headers = Sequence[tuple[str, bytes]]
#: Milliseconds since the epoch, UTC.
Millis = Annotated[int, Meta(ge=0)]


class EventType(enum.StrEnum):
    """What happened, in our words. A provider's word that no table knows is UNKNOWN: counted, kept, passed on."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    OPENED = "opened"
    CLICKED = "clicked"
    SOFT_BOUNCE = "soft_bounce"
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    SUPPRESSED = "suppressed"  # an operator's decision not to mail
    REINSTATED = "reinstated"  # an operator's decision that what is older no longer counts
    UNKNOWN = "unknown"

    # Every event is looked up by its type more than once, and Enum's own hash is a Python function. A StrEnum equals
    # its text, so it may well hash as that.
    __hash__ = str.__hash__


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fact that a provider told us.

    id           what makes it the same event: the provider's id, or a fingerprint where there is none
    email        normalised address, None if the provider named none that could be one
    email_given  the address as the provider wrote it, None if there was none
    occurred_at  the provider's time, data only: never trusted for windows or retention
    received_at  when the delivery was complete at our ingress, by that machine's clock: data only
    arrived_at   when the log first took what this was read from, if that was before it took this record: a delivery
                 that nobody could read, and that was sent round again. By the broker's clock
    raw          the event as the provider wrote it, JSON; read again when a mapping was corrected
    """

    v: Literal[1] = SCHEMA_VERSION
    provider: Annotated[str, Meta(min_length=1, max_length=64)]
    type: EventType
    provider_type: str
    id: Annotated[str, Meta(min_length=1)]
    id_basis: Literal["id", "fingerprint"]
    provider_event_id: str | None = None
    email: str | None = None
    email_given: str | None = None
    occurred_at: Millis | None = None
    received_at: Millis
    arrived_at: Millis | UnsetType = UNSET
    raw: msgspec.Raw = msgspec.Raw(b"null")

    def happened(self, appended: int) -> int:
        """When it counts as having happened, in ms: the provider's time if it gives one, but never after its arrival.

        A provider's clock in the far future would otherwise outlive every later unsubscribe. Only the broker's clock
        says when that was, so that every process and every replay finds the same; see docs/decisions/0025.

        appended  when the broker appended the record, or the one it was first, in ms: `origin(record).at`
        """
        arrived = appended if self.arrived_at is UNSET else min(self.arrived_at, appended)
        return arrived if self.occurred_at is None else min(self.occurred_at, arrived)

    @property
    def at(self) -> int:
        """When it counts as having happened, in ms. Only of an event that was `dated`, as handlers get them."""
        return self.happened(self.received_at)


class Record(Protocol):
    """The part of a consumed Kafka record that rules look at; timestamp in ms."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


_SCHEMA = b"%d" % SCHEMA_VERSION
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)
_ORIGIN = re.compile(rb"(\d{1,10}):(\d{1,18}):(\d{1,15})")
_PATH = re.compile(r" - at `\$\.?(.*)`$")


def encode(event: Event) -> bytes:
    """The record's value: JSON, UTF-8."""
    return _encoder.encode(event)


def decode(value: bytes | None) -> Event:
    """The event in a record's value.

    Raises Undecodable naming the field and the reason.
    """
    if value is None:
        raise Undecodable("value: missing; an event record is never a tombstone")
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(explain(error)) from None


def explain(error: Exception) -> str:
    """`field: reason` of a decoder's error; msgspec puts the path at the end, readers want it in front."""
    text = str(error)
    found = _PATH.search(text)
    return f"{found[1] or 'value'}: {text[: found.start()]}" if found else f"value: {text}"


def key(event: Event) -> bytes:
    """The record's key: the address; where there is none the event's id, so that its repeats share a partition."""
    return (event.email or event.id).encode()


def partition_of(key: bytes, partitions: int) -> int:
    """The partition a key belongs to, as every Kafka client places it by default: 0 to partitions - 1."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key, unsigned 32 bits: MurmurHash2 by Austin Appleby with Kafka's seed.

    As `org.apache.kafka.common.utils.Utils.murmur2`; a word at a time, since every event on its way in pays for it.
    """
    mask, mix = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    hashed = 0x9747B28C ^ length
    for word in struct.unpack_from(f"<{length >> 2}I", data):
        word = word * mix & mask
        hashed = (hashed * mix & mask) ^ ((word ^ word >> 24) * mix & mask)
    if length & 3:
        hashed = (hashed ^ int.from_bytes(data[length & ~3 :], "little")) * mix & mask
    hashed = (hashed ^ hashed >> 13) * mix & mask
    return hashed ^ hashed >> 15


def headers(event: Event, traceparent: str) -> list[tuple[str, bytes]]:
    """Headers of the record, so that tools can route and filter without parsing the value."""
    return [
        (HEADER_TYPE, event.type.encode()),
        (HEADER_PROVIDER, event.provider.encode()),
        (HEADER_ID, event.id.encode()),
        (HEADER_SCHEMA, _SCHEMA),
        (HEADER_TRACE, traceparent.encode()),
    ]


def traceparent(random: bytes) -> str:
    """A traceparent of our own from 24 random bytes: version 00, not sampled."""
    text = random.hex()
    return f"00-{text[:32]}-{text[32:]}-00"


class Position(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A place in one partition of the log, which is what identifies an event: offset and arrival time in ms."""

    offset: int
    at: int


def origin(record: Record) -> Position:
    """Where the event of this record first stood in the log: here, unless it was sent round again.

    Raises Undecodable if the origin header is not `partition:offset:timestamp`.
    """
    for name, value in record.headers:
        if name == HEADER_ORIGIN:
            return read_origin(value)[1]
    return Position(record.offset, max(record.timestamp, 0))


def dated(event: Event, record: Record) -> Event:
    """The event with the log's time in the place of the ingress'. Raises Undecodable as `origin` does."""
    return msgspec.structs.replace(event, received_at=origin(record).at)


def read_origin(value: bytes | None) -> tuple[int, Position]:
    """Partition and position in the value of the origin header.

    Raises Undecodable if it is not `partition:offset:timestamp`.
    """
    found = _ORIGIN.fullmatch(value or b"")
    if not found:
        raise Undecodable(f"header {HEADER_ORIGIN}: {value!r} is not partition:offset:timestamp")
    return int(found[1]), Position(int(found[2]), int(found[3]))


def origin_header(partition: int, position: Position) -> tuple[str, bytes]:
    """The header that keeps an event's identity when its record is sent round again."""
    return HEADER_ORIGIN, b"%d:%d:%d" % (partition, position.offset, position.at)


def fingerprint(*parts: bytes) -> str:
    """An id for an event whose provider gives none: the same bytes sent again make the same id."""
    digest = hashlib.sha256()
    for part in parts:
        # The length goes in too, or ("ab", "c") and ("a", "bc") would be one event.
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"
