"""What a dead letter becomes when it is sent round again."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from console import redrives
from console.redrives import Sending
from ingress.delivery import MOST_EVENTS
from pipeline import contract, deadletter, topics
from pipeline.contract import Position
from pipeline.deadletter import Source
from pipeline.errors import LetterRefused, Unreadable
from processor import dedup
from processor.dedup import Verdict
from tests.unit.records import NOON, SOURCE, FakeRecord, event, letter

EVENTS = topics.load(topics.default_file()).events
BODY = b'{"id":"evt_1","type":"bounced.hard","data":{"email":"Ann@Example.com"}}'
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"


def again(record: FakeRecord, redrive: int = 1) -> list[Sending]:
    made = redrives.again(record, events=EVENTS, redrives=redrive, fresh_trace=TRACE)
    assert not made.left
    return made.records


def test_a_record_goes_back_as_it_was_with_its_place_and_the_count() -> None:
    original = [*contract.headers(event(), "trace"), ("theirs", b"1")]
    (sent,) = again(letter(5, value=b"value", key=b"key", headers=original))
    assert (sent.partition, sent.key, sent.value) == (3, b"key", b"value")
    origin = contract.origin_header(3, Position(17, SOURCE.timestamp))
    assert list(sent.headers) == [*original, origin, (deadletter.REDRIVES, b"1")]


def test_the_processor_takes_it_for_the_very_record_it_was() -> None:
    (sent,) = again(letter(5, value=contract.encode(event())))
    place = contract.origin(FakeRecord(90, sent.value, sent.key, NOON + 10**9, sent.headers))
    assert dedup.judge(place, [Position(17, SOURCE.timestamp)]) is Verdict.AGAIN


def test_headers_of_earlier_redrives_are_replaced_and_the_first_place_stays() -> None:
    record = letter(5)
    for times in (1, 2, 3):
        (sent,) = again(record, times)
        names = [name for name, _ in sent.headers]
        assert names.count(contract.HEADER_ORIGIN) == names.count(deadletter.REDRIVES) == 1
        assert dict(sent.headers)[deadletter.REDRIVES] == b"%d" % times
        assert dict(sent.headers)[contract.HEADER_ORIGIN] == b"3:17:%d" % SOURCE.timestamp
        # It fails again, further on.
        source = Source(SOURCE.topic, 3, 90 + times, NOON + times, SOURCE.group)
        record = letter(5 + times, source=source, headers=sent.headers)


def test_a_broken_origin_is_mended_by_the_redrive() -> None:
    (sent,) = again(letter(5, headers=[(contract.HEADER_ORIGIN, b"x")]))
    assert dict(sent.headers)[contract.HEADER_ORIGIN] == b"3:17:%d" % SOURCE.timestamp


def test_an_event_whose_recipient_can_be_read_now_goes_where_that_address_belongs() -> None:
    stored = msgspec.structs.replace(event(None), email_given="Ann <Ann@Example.com>")
    headers = [*contract.headers(stored, "trace"), contract.origin_header(3, Position(17, NOON - 9))]
    (sent,) = again(letter(5, value=contract.encode(stored), key=b"1", headers=headers), 2)
    assert (sent.partition, sent.key) == (contract.partition_of(b"ann@example.com", 12), b"ann@example.com")
    made = contract.decode(sent.value)
    assert made == msgspec.structs.replace(stored, email="ann@example.com", arrived_at=NOON - 9)
    # It has no place in that partition yet; and it counts from when the log took it first.
    assert list(sent.headers) == [*contract.headers(stored, "trace"), (deadletter.REDRIVES, b"2")]
    assert made.happened(NOON + 10**9) == NOON - 9


@pytest.mark.parametrize("given", [None, "ann at example.com", "a@example.com,b@example.com"])
def test_an_event_that_still_names_nobody_goes_back_as_it_was(given: str | None) -> None:
    value = contract.encode(msgspec.structs.replace(event(None), email_given=given))
    (sent,) = again(letter(5, value=value, key=b"1"))
    assert (sent.partition, sent.key, sent.value) == (3, b"1", value)


def unread(body: bytes, *, at: int = NOON, provider: bytes = b"nexuspromail") -> FakeRecord:
    headers = [
        (contract.HEADER_PROVIDER, provider),
        (contract.HEADER_TRACE, TRACE.replace("a", "c").encode()),
        (deadletter.CONTENT_TYPE, b"application/json"),
    ]
    return letter(5, value=body, key=None, source=None, error=Unreadable("x"), at=at, headers=headers)


def test_a_delivery_is_read_again_as_of_when_the_log_took_its_letter() -> None:
    (sent,) = again(dataclasses.replace(unread(BODY, at=NOON - 5), timestamp=NOON - 3))
    made = contract.decode(sent.value)
    assert (made.id, made.email, made.received_at) == ("evt_1", "ann@example.com", NOON - 5)
    assert made.arrived_at == NOON - 3
    assert (sent.partition, sent.key) == (contract.partition_of(b"ann@example.com", 12), b"ann@example.com")
    assert list(sent.headers) == contract.headers(made, TRACE.replace("a", "c"))


def test_a_delivery_of_more_events_than_are_taken_at_once_becomes_a_record_for_each() -> None:
    count = MOST_EVENTS + 1
    bounces = b",".join(
        b'{"id":"%d","type":"bounced.hard","data":{"email":"%d@x.io"}}' % (n, n) for n in range(count)
    )
    sent = again(unread(b"[" + bounces + b"]"))
    assert len(sent) == count
    assert sent[-1].key == b"%d@x.io" % (count - 1)


def test_what_is_still_unreadable_in_a_delivery_is_left_in_its_letter_and_the_rest_is_sent() -> None:
    made = redrives.again(unread(b"[" + BODY + b",7]"), events=EVENTS, redrives=1, fresh_trace=TRACE)
    assert [sending.key for sending in made.records] == [b"ann@example.com"]
    assert made.left.startswith("1 of its 2 events are still unreadable, the first: value: Expected `object`")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (unread(b"{"), "still unreadable: value"),
        (unread(b'{"type":"opened","data":[]}'), "still unreadable: data"),
        (unread(b"[]"), "tells of no event: discard it"),
        (unread(BODY, provider=b"gone"), "no reader for the provider 'gone'"),
        (letter(5, source=msgspec.structs.replace(SOURCE, topic="elsewhere")), "from the topic 'elsewhere'"),
        (letter(5, source=msgspec.structs.replace(SOURCE, partition=12)), "partition 12, and email-events has 12"),
        (letter(5, source=msgspec.structs.replace(SOURCE, partition=-1)), "partition -1"),
        (letter(5, key=None, value=None), "neither key nor value"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(record: FakeRecord, why: str) -> None:
    with pytest.raises(LetterRefused, match=why):
        again(record)
