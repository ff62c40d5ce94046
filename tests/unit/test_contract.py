"""The codec, addresses, fingerprints and dead-letter headers."""

import contextlib

import msgspec
import pytest
from aiokafka import partitioner
from hypothesis import given
from hypothesis import strategies as st

from pipeline import contract, deadletter, suppression
from pipeline.contract import Event, EventType, Position
from pipeline.errors import NoRecipient, Undecodable
from pipeline.suppression import Facts, Suppression
from tests.unit.records import NOON, FakeRecord, event, record

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
EVENTS = st.builds(
    Event,
    provider=st.text("abcdefgh", min_size=1, max_size=10),
    type=st.sampled_from(EventType),
    provider_type=TEXT,
    id=TEXT.filter(bool),
    id_basis=st.sampled_from(["id", "fingerprint"]),
    provider_event_id=st.none() | TEXT,
    email=st.none() | TEXT,
    email_given=st.none() | TEXT,
    occurred_at=st.none() | st.integers(0, 2**53),
    received_at=st.integers(0, 2**53),
    raw=st.just(msgspec.Raw(b'{"a": [1, null]}')),
)


@given(st.binary(max_size=40))
def test_keys_go_where_every_other_client_puts_them(key: bytes) -> None:
    assert contract.murmur2(key) == partitioner.murmur2(key) & 0xFFFFFFFF
    assert contract.partition_of(key, 12) == partitioner.DefaultPartitioner()(key, list(range(12)), [])


@given(EVENTS)
def test_what_is_encoded_decodes_to_the_same_event(made: Event) -> None:
    assert contract.decode(contract.encode(made)) == made


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"v": 2}, "v"),
        ({"type": "exploded"}, "type"),
        ({"provider": ""}, "provider"),
        ({"email": 5}, "email"),
        ({"received_at": -1}, "received_at"),
        ({"received_at": "noon"}, "received_at"),
        ({"id_basis": "guess"}, "id_basis"),
    ],
)
def test_a_decode_error_names_the_field(change: dict[str, object], field: str) -> None:
    whole = msgspec.json.decode(contract.encode(event()))
    with pytest.raises(Undecodable, match=rf"^{field}: "):
        contract.decode(msgspec.json.encode(whole | change))


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"v":1}', b"[" * 100_000, b'{"v":' * 5_000, b'"\\ud800"'],
)
def test_garbage_is_undecodable_and_never_another_error(value: bytes | None) -> None:
    with pytest.raises(Undecodable):
        contract.decode(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_undecodable(value: bytes) -> None:
    with contextlib.suppress(Undecodable):
        contract.decode(value)


@pytest.mark.parametrize(
    ("given_as", "address"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann@EXAMPLE.com\n", "ann@example.com"),
        ("ann+news@example.com", "ann+news@example.com"),
        ("Ünï@exämple.com", "ünï@xn--exmple-cua.com"),
        ("u\u0308@x.io", "ü@x.io"),
        ('"a@b"@x.io', '"a@b"@x.io'),
        ("no-at-sign", None),
        ("@x.io", None),
        ("ann@", None),
        ("", None),
        ("a\x00b@x.io", None),
        ("a b@x.io", None),
        ("a\u200bb@x.io", None),
        ("a" * 310 + "@example.com", None),
    ],
)
def test_an_address_has_one_form_or_none(given_as: str, address: str | None) -> None:
    assert contract.address(given_as) == address


@given(TEXT.map(lambda text: f"{text}@x.io"))
def test_normalising_an_address_twice_changes_nothing(text: str) -> None:
    once = contract.address(text)
    assert once is None or contract.address(once) == once


def test_the_key_is_the_address_and_without_one_the_id() -> None:
    assert contract.key(event("ann@example.com")) == b"ann@example.com"
    assert contract.key(event(None, id="evt_9")) == b"evt_9"


def test_headers_tell_type_provider_id_schema_and_trace() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert dict(contract.headers(event(), trace)) == {
        "postlog-type": b"hard_bounce",
        "postlog-provider": b"nexuspromail",
        "postlog-id": b"evt_1",
        "postlog-schema": b"1",
        "traceparent": trace.encode(),
    }


def test_a_record_is_its_own_origin_unless_it_was_sent_round_again() -> None:
    assert contract.origin(record(7, event())) == Position(7, NOON)
    again = record(9, event(), headers=[contract.origin_header(2, Position(7, NOON))])
    assert contract.origin(again) == Position(7, NOON)


@pytest.mark.parametrize("value", [None, b"", b"1:2", b"0:-1:5", b"0:9999999999999999999:5", b"0:3:" + b"9" * 16])
def test_an_origin_that_cannot_be_is_undecodable(value: bytes | None) -> None:
    with pytest.raises(Undecodable, match="postlog-origin"):
        contract.origin(record(9, event(), headers=[("postlog-origin", value)]))  # type: ignore[list-item]


def test_a_record_without_time_arrived_at_the_beginning_of_time() -> None:
    assert contract.origin(record(9, event(), timestamp=-1)) == Position(9, 0)


@given(st.lists(st.binary(max_size=5), max_size=3), st.lists(st.binary(max_size=5), max_size=3))
def test_fingerprints_differ_when_the_parts_do(one: list[bytes], other: list[bytes]) -> None:
    assert (contract.fingerprint(*one) == contract.fingerprint(*other)) == (one == other)


def test_a_suppression_names_its_field_when_it_does_not_decode() -> None:
    whole = msgspec.json.decode(suppression.encode(Suppression.of("a@x.io", Facts())))
    with pytest.raises(Undecodable, match=r"^updated_at: "):
        suppression.decode(msgspec.json.encode(whole | {"updated_at": "now"}))


def test_a_dead_letter_keeps_the_original_and_says_where_and_why_in_springs_words() -> None:
    source = deadletter.Source("email-events", 3, 2**40, NOON, "postlog-processor")
    error = NoRecipient("email: the event names no recipient")
    original = contract.headers(event(), "trace")
    added = deadletter.headers(error, stage="processor", now=NOON + 5, source=source, tries=2, first_failure=NOON)
    assert dict(added)["kafka_dlt-original-offset"] == (2**40).to_bytes(8, "big")
    assert dict(added)["kafka_dlt-original-partition"] == (3).to_bytes(4, "big")
    letter = deadletter.read(FakeRecord(0, b"{}", headers=[*original, *added]))
    assert letter.source == source
    assert letter.error == "pipeline.errors.NoRecipient"
    assert (letter.stage, letter.provider, letter.type, letter.id) == (
        "processor",
        "nexuspromail",
        "hard_bounce",
        "evt_1",
    )
    assert (letter.tries, letter.first_failure, letter.last_failure) == (2, NOON, NOON + 5)
    assert deadletter.original_headers([*original, *added]) == original


def test_a_header_of_thousands_of_digits_is_no_number() -> None:
    letter = deadletter.read(FakeRecord(0, None, headers=[(deadletter.TRIES, b"9" * 5000)]))
    assert letter.tries == 1


@given(st.lists(st.tuples(st.sampled_from([*deadletter.ADDED, "postlog-type"]), st.binary(max_size=9)), max_size=6))
def test_any_headers_can_be_read_as_a_dead_letter(headers: list[tuple[str, bytes]]) -> None:
    assert deadletter.read(FakeRecord(0, None, headers=headers)).error


@pytest.mark.parametrize(
    "value", [b"", b"1:2", b"1:2:3:4", b"a:1:2", b"1:-2:3", b"1:2:+3", b"1:" + b"9" * 20 + b":3"]
)
def test_an_origin_that_is_no_place_is_refused(value: bytes) -> None:
    with pytest.raises(Undecodable, match="postlog-origin"):
        contract.read_origin(value)
    with pytest.raises(Undecodable, match="postlog-origin"):
        contract.origin(record(9, event(), headers=[(contract.HEADER_ORIGIN, value)]))
