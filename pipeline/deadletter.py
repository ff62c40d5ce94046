"""What a dead letter says: the original record, and why nobody could process it.

Pure. Key, value and headers are the original's. What is added speaks Spring Kafka's words and encodings
(`org.springframework.kafka.support.KafkaHeaders.DLT_*`: numbers big-endian, text UTF-8), so that tools that
know those dead letters know these.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from pipeline import masking
from pipeline.contract import (
    HEADER_ID,
    HEADER_ORIGIN,
    HEADER_PROVIDER,
    HEADER_TYPE,
    Headers,
    Position,
    Record,
    origin_header,
    read_origin,
)
from pipeline.errors import Undecodable

TOPIC = "kafka_dlt-original-topic"
PARTITION = "kafka_dlt-original-partition"  # int, 4 bytes
OFFSET = "kafka_dlt-original-offset"  # long, 8 bytes
TIMESTAMP = "kafka_dlt-original-timestamp"  # long, 8 bytes, ms
GROUP = "kafka_dlt-original-consumer-group"
EXCEPTION = "kafka_dlt-exception-fqcn"
MESSAGE = "kafka_dlt-exception-message"
# Ours: Spring has no words for these.
STAGE = "postlog-stage"
TRIES = "postlog-tries"
FIRST_FAILURE = "postlog-first-failure"  # ms since the epoch, decimal
LAST_FAILURE = "postlog-last-failure"
HANDLER = "postlog-handler"  # whose calls failed; only on letters that a handler caused
CONTENT_TYPE = "postlog-content-type"  # of the delivery's body, from the ingress
#: How often the record was sent round again, decimal. It belongs to the record and not to the letter: the processor
#: copies it into the letter of the next failure, which so tells the number even if nobody noted the redrive.
REDRIVES = "postlog-redrives"

#: Every header that a dead letter adds to the original's.
ADDED = frozenset(
    {
        TOPIC,
        PARTITION,
        OFFSET,
        TIMESTAMP,
        GROUP,
        EXCEPTION,
        MESSAGE,
        STAGE,
        TRIES,
        FIRST_FAILURE,
        LAST_FAILURE,
        HANDLER,
    }
)
#: Error messages quote input: they are masked, and more than this helps nobody.
LONGEST_MESSAGE = 500


class Source(msgspec.Struct, frozen=True):
    """The record that could not be processed; timestamp in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    group: str


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as people see it. `unknown` and empty text stand for headers that are not there.

    stage   which service gave up
    error   class name of the error, `package.module.Class`
    source  None for a delivery that never became a record (stage `ingress`)
    handler whose calls failed; empty if the record itself was the problem
    origin  partition and position where the event first stood; differs from the source's after a redrive
    """

    stage: Literal["ingress", "processor", "unknown"]
    error: str
    message: str
    provider: str
    type: str
    id: str
    source: Source | None
    tries: int
    first_failure: int
    last_failure: int
    handler: str = ""
    redrives: int = 0
    origin: tuple[int, Position] | None = None


def headers(
    error: Exception,
    *,
    stage: Literal["ingress", "processor"],
    now: int,
    source: Source | None = None,
    tries: int = 1,
    first_failure: int | None = None,
    handler: str | None = None,
) -> list[tuple[str, bytes]]:
    """The headers to add to the original's; now and first_failure in ms.

    handler  the name of the handler that gave up, if one did
    """
    added = [
        (EXCEPTION, f"{type(error).__module__}.{type(error).__qualname__}".encode()),
        (MESSAGE, masking.cut(str(error), LONGEST_MESSAGE).encode(errors="replace")),
        (STAGE, stage.encode()),
        (TRIES, b"%d" % tries),
        (FIRST_FAILURE, b"%d" % (now if first_failure is None else first_failure)),
        (LAST_FAILURE, b"%d" % now),
    ]
    if handler is not None:
        added.append((HANDLER, handler.encode()))
    if source is not None:
        added += [
            (TOPIC, source.topic.encode()),
            (PARTITION, struct.pack(">i", source.partition)),
            (OFFSET, struct.pack(">q", source.offset)),
            (TIMESTAMP, struct.pack(">q", source.timestamp)),
            (GROUP, source.group.encode()),
        ]
    return added


def read(record: Record) -> DeadLetter:
    """The dead letter in a record of the dead-letter topic. Total: a strange record still gives something to show."""
    found = dict(record.headers)  # the last one wins: a letter that died again says why it died last
    stage = _text(found, STAGE)
    source = _source(found)
    return DeadLetter(
        stage="ingress" if stage == "ingress" else "processor" if stage == "processor" else "unknown",
        error=_text(found, EXCEPTION) or "unknown",
        message=_text(found, MESSAGE),
        provider=_text(found, HEADER_PROVIDER) or "unknown",
        type=_text(found, HEADER_TYPE) or "unknown",
        id=_text(found, HEADER_ID),
        source=source,
        tries=_number(found, TRIES, 1),
        first_failure=_number(found, FIRST_FAILURE, record.timestamp),
        last_failure=_number(found, LAST_FAILURE, record.timestamp),
        handler=_text(found, HANDLER),
        redrives=_number(found, REDRIVES, 0),
        origin=_origin(found, source),
    )


def original_headers(headers: Headers) -> list[tuple[str, bytes]]:
    """The headers of the original record, without what dead letters add."""
    return [(name, value) for name, value in headers if name not in ADDED]


def redrive_headers(headers: Headers, origin: tuple[int, Position], redrives: int) -> list[tuple[str, bytes]]:
    """Headers of the record that a letter with these headers becomes when it is sent round for the n-th time.

    The original's, its first place in the log, and the count. Both replace those of an earlier redrive.
    """
    kept = [(name, value) for name, value in original_headers(headers) if name not in (HEADER_ORIGIN, REDRIVES)]
    return [*kept, origin_header(*origin), (REDRIVES, b"%d" % redrives)]


def _text(found: dict[str, bytes], name: str) -> str:
    return (found.get(name) or b"").decode(errors="replace")


def _number(found: dict[str, bytes], name: str, otherwise: int) -> int:
    text = found.get(name) or b""
    # Python refuses to read a number of thousands of digits; no header of ours is that long.
    return int(text) if text.isdigit() and len(text) < 20 else otherwise


def _origin(found: dict[str, bytes], source: Source | None) -> tuple[int, Position] | None:
    if HEADER_ORIGIN in found:
        try:
            return read_origin(found[HEADER_ORIGIN])
        except Undecodable:
            pass  # that is why it died: then its own place is all we know
    return None if source is None else (source.partition, Position(source.offset, source.timestamp))


def _source(found: dict[str, bytes]) -> Source | None:
    try:
        return Source(
            topic=_text(found, TOPIC),
            partition=struct.unpack(">i", found[PARTITION])[0],
            offset=struct.unpack(">q", found[OFFSET])[0],
            timestamp=struct.unpack(">q", found[TIMESTAMP])[0],
            group=_text(found, GROUP),
        )
    except (KeyError, TypeError, struct.error):
        return None
