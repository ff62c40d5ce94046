"""What must hold for every reader of bytes from outside, whatever the bytes are.

Pure. Each function returns if it holds and raises if not; what a reader may raise is expected.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from alerter import group_told
from alerter import incidents as alerts
from ingress import accept
from ingress.app import ENVELOPE_BYTES
from ingress.delivery import Delivery
from ingress.providers import PROVIDERS
from lookup import progress
from pipeline import contract, deadletter, incidents, letters, suppression
from pipeline.errors import PostlogError, TooManyEvents, Undecodable
from processor import bounds, calls
from processor.decide import State, decide
from tests.unit.records import NOON, FakeRecord

_TRACE = contract.traceparent(bytes(24))


def delivery(data: bytes) -> None:
    """An authentic delivery becomes records that fit, and whose events the processor reads as they were written."""
    for provider in PROVIDERS.values():
        given = Delivery(method="POST", headers={"traceparent": _TRACE}, body=data, received_at=NOON)
        try:
            made = accept.records(provider, given, fresh_trace=_TRACE)
        except TooManyEvents:
            continue
        assert made or b"".join(data.removeprefix(b"\xef\xbb\xbf").split()) == b"[]"
        for record in made:
            size = len(record.value) + sum(len(name) + len(value) for name, value in record.headers)
            assert size <= len(data) + ENVELOPE_BYTES
            if record.topic == "events":
                event = contract.decode(record.value)
                assert contract.key(event) == record.key
                assert event.email is None or contract.address(event.email) == event.email
                _processed(FakeRecord(0, record.value, record.key, NOON, record.headers))


def event(data: bytes) -> None:
    """Any value on the events topic is an event that survives a round trip, or a dead letter."""
    with suppress(Undecodable):
        found = contract.decode(data)
        assert contract.decode(contract.encode(found)) == found
    _processed(
        FakeRecord(0, data, data[:40], NOON, [(contract.HEADER_ORIGIN, data[:60])] if data[:1] < b"\x80" else [])
    )


def entry(data: bytes) -> None:
    """Any value on the list is an entry that survives a round trip, or is refused with a reason."""
    with suppress(Undecodable):
        found = suppression.decode(data)
        assert suppression.decode(suppression.encode(found)) == found


def letter(data: bytes) -> None:
    """Any record on the dead-letter topic can be shown, and its state read or refused."""
    names = sorted(deadletter.ADDED)
    headers = [(names[index % len(names)], data[index : index + 1 + index % 30]) for index in range(0, len(data), 7)]
    assert deadletter.read(FakeRecord(0, data, data[:20], NOON, headers)).error
    with suppress(Undecodable):
        letters.decode(data)


def rows(data: bytes) -> None:
    """Any row of ours that somebody else has written is read, or refused with an error of ours."""
    for decode in (calls.decode, incidents.decode, alerts.decode, group_told.decode, progress.decode):
        with suppress(PostlogError):
            decode(data)
    with suppress(PostlogError):
        bounds.read(data.decode(errors="replace"))


READERS: dict[str, Callable[[bytes], None]] = {each.__name__: each for each in (delivery, event, entry, letter, rows)}


def _processed(record: FakeRecord) -> None:
    """The processor makes of a record a marker, a dead letter, or both."""
    changes = decide([record], State(lambda keys: [None] * len(keys), lambda keys: [None] * len(keys)))
    assert changes.end == record.offset + 1
    assert len(changes.seen) + len(changes.rejected) >= 1
    assert sum(changes.processed.values()) + len(changes.rejected) == 1
