"""Signatures, the NexusProMail reader, and what a delivery becomes."""

import hashlib
import hmac
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ingress import accept, signatures
from ingress.accept import Outgoing
from ingress.delivery import MOST_EVENTS, Delivery
from ingress.providers import PROVIDERS, Provider
from pipeline import contract, deadletter
from pipeline.contract import EventType
from pipeline.errors import BadSignature, TooManyEvents
from pipeline.settings import Settings
from tests.unit.records import NOON, FakeRecord

NEXUS = PROVIDERS["nexuspromail"]
SECRET, FORMER = b"the-current-secret", b"the-former-secret"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def delivery(body: bytes, **headers: str) -> Delivery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery("POST", CIMultiDict(named), body, received_at=NOON)


def outgoing(body: bytes, provider: Provider = NEXUS, **headers: str) -> list[Outgoing]:
    return accept.records(provider, delivery(body, **headers), fresh_trace=TRACE)


def sign(body: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def nexus_signature(body: bytes, secret: bytes) -> dict[str, str]:
    return {"X_NexusProMail_Signature": sign(body, secret)}


#: Every provider runs the security suite below: how it signs a body.
SIGNERS: dict[str, Callable[[bytes, bytes], dict[str, str]]] = {"nexuspromail": nexus_signature}


def test_every_provider_runs_the_security_suite() -> None:
    assert SIGNERS.keys() == PROVIDERS.keys()


@pytest.mark.parametrize(
    "body", [b"{}", b"", b"\x00\xff", b"x" * 1_000_000], ids=["json", "empty", "binary", "large"]
)
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_body_signed_with_our_secret_is_authentic(name: str, body: bytes) -> None:
    PROVIDERS[name].verify(delivery(body, **SIGNERS[name](body, SECRET)), [SECRET], 0.0)


@pytest.mark.parametrize("name", PROVIDERS)
def test_while_rotating_both_secrets_are_good_and_afterwards_only_the_new_one(name: str) -> None:
    signed = delivery(b"{}", **SIGNERS[name](b"{}", FORMER))
    PROVIDERS[name].verify(signed, [SECRET, FORMER], 0.0)
    with pytest.raises(BadSignature):
        PROVIDERS[name].verify(signed, [SECRET], 0.0)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_changed_body_or_a_missing_signature_is_not_authentic(name: str) -> None:
    for forged in (delivery(b"{ }", **SIGNERS[name](b"{}", SECRET)), delivery(b"{}")):
        with pytest.raises(BadSignature):
            PROVIDERS[name].verify(forged, [SECRET], 0.0)


@pytest.mark.parametrize(
    "signature", [None, "", "0" * 64, "é" * 64, "\udcff\udcfe", sign(b"{}").upper(), sign(b"{}") + "0", "\x00"]
)
def test_a_strange_signature_is_refused_and_never_another_error(signature: str | None) -> None:
    with pytest.raises(BadSignature):
        signatures.hmac_sha256_hex(b"{}", signature=signature, secrets=[SECRET])


@given(st.text(max_size=80))
def test_no_guessed_signature_is_accepted(signature: str) -> None:
    with pytest.raises(BadSignature):
        signatures.hmac_sha256_hex(b"{}", signature=signature, secrets=[SECRET])


@pytest.mark.parametrize(
    ("word", "kind"), [("bounced.hard", "hard_bounce"), ("complained", "complaint"), ("sneezed", "unknown")]
)
def test_a_delivery_becomes_one_event_in_our_words(word: str, kind: str) -> None:
    body = json.dumps({"id": "e1", "type": word, "data": {"email": " Ann@Example.COM "}}).encode()
    (made,) = outgoing(body)
    event = contract.decode(made.value)
    assert (made.topic, made.key, made.type) == ("events", b"ann@example.com", kind)
    assert (event.id, event.id_basis, event.provider_type) == ("e1", "id", word)
    assert (event.email, event.email_given) == ("ann@example.com", " Ann@Example.COM ")
    assert event.received_at == NOON
    assert bytes(event.raw) == body


def test_an_array_of_events_becomes_a_record_for_each_in_order() -> None:
    events = [{"id": f"e{n}", "type": "opened", "data": {"email": f"{n}@x.io"}} for n in range(3)]
    made = outgoing(b" \n" + json.dumps(events, indent=1).encode())
    assert [contract.decode(record.value).id for record in made] == ["e0", "e1", "e2"]
    assert [json.loads(bytes(contract.decode(record.value).raw)) for record in made] == events


def test_what_is_unreadable_in_an_array_is_a_dead_letter_and_the_rest_counts() -> None:
    made = outgoing(b'[{"type": "opened", "data": {"email": "a@x.io"}}, 7, {"type": "opened", "data": []}]')
    assert [record.topic for record in made] == ["events", "dead_letters", "dead_letters"]
    assert made[1].value == b"7"


@pytest.mark.parametrize("body", [b"[", b'[{"type": "opened"}', b"[" + b"0," * 10_000 + b"0]", b"[" * 100_000])
def test_an_array_that_ends_early_or_of_which_nothing_can_be_read_is_one_dead_letter(body: bytes) -> None:
    (made,) = outgoing(body)
    assert (made.topic, made.value) == ("dead_letters", body)


def test_more_events_than_are_taken_at_once_are_refused_as_a_whole() -> None:
    with pytest.raises(TooManyEvents, match="25001 events, and one delivery may have 25000"):
        outgoing(b"[" + b"0," * MOST_EVENTS + b"0]")


def test_as_many_bounces_as_fit_into_a_body_are_not_too_many() -> None:
    shortest = b'{"type":"bounced.hard","data":{"email":"a@b.c"}}'
    assert Settings().ingress_max_body_bytes < MOST_EVENTS * (len(shortest) + 1)


@pytest.mark.parametrize("body", [b"[]", b" [ ]\n", b" " * 40 + b"[]", b"\xef\xbb\xbf[]"])
def test_an_array_of_no_events_becomes_no_record(body: bytes) -> None:
    assert outgoing(body) == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"ping"}',
        b'{"type":"ping","data":null}',
        b'{"type":"ping","data":[]}',
        b'{"type":"ping","data":"pong"}',
        b'{"type":"ping","data":{"email":["a@x.io"]}}',
        b'[{"type":"ping"}]',
    ],
)
def test_a_word_that_no_table_has_is_an_event_that_names_nobody(body: bytes) -> None:
    (made,) = outgoing(body)
    event = contract.decode(made.value)
    assert (made.topic, event.type, event.provider_type, event.email) == ("events", EventType.UNKNOWN, "ping", None)


@pytest.mark.parametrize("identity", [{}, {"id": None}, {"id": ""}])
def test_an_event_without_id_is_known_by_its_content(identity: dict[str, object]) -> None:
    body = json.dumps({"type": "opened", "data": {"email": "a@x.io"}} | identity).encode()
    event = contract.decode(outgoing(body)[0].value)
    assert event.id_basis == "fingerprint"
    assert event.id == contract.decode(outgoing(body)[0].value).id
    assert event.id != contract.decode(outgoing(body + b" ")[0].value).id


@pytest.mark.parametrize("email", ["not-an-address", "", "a\u0000b@x.io", None])
def test_an_event_without_usable_recipient_is_still_an_event(email: str | None) -> None:
    body = json.dumps({"id": "e1", "type": "opened", "data": {"email": email}}).encode()
    (made,) = outgoing(body)
    assert made.topic == "events"
    assert contract.decode(made.value).email is None
    assert made.key == b"e1"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "value: "),
        (b"{", "value: "),
        (b'"text"', "value: "),
        (b"\xff\xff", "value: "),
        (b'{"id":"e","data":{"email":"a@x.io"}}', "value: "),
        (b"[7, 8]", "value: "),
        (b'{"id":"e","type":null,"data":{"email":"a@x.io"}}', "type: "),
        (b'{"id":"e","type":"opened","data":{"email":["a@x.io"]}}', "data.email: "),
        (b'{"id":"e","type":"opened","data":[]}', "data: "),
        (b'{"id":"e","type":"opened","data":{"email":"\\ud800@x.io"}}', "value: "),
        (b'{"id":"e","type":"' + b"x" * 1025 + b'","data":{"email":"a@x.io"}}', "type: longer than"),
        (b'{"id":"e","type":"opened","data":{"email":"' + b"x" * 1025 + b'"}}', "email: longer than"),
        (b"[" * 500_000, "value: "),
    ],
)
def test_what_cannot_be_understood_becomes_a_dead_letter_with_field_and_reason(body: bytes, reason: str) -> None:
    (made,) = outgoing(body, Content_Type="application/json; charset=utf-8")
    letter = deadletter.read(FakeRecord(0, made.value, made.key, headers=made.headers))
    assert (made.topic, made.value) == ("dead_letters", body)
    assert (letter.stage, letter.provider, letter.error) == ("ingress", "nexuspromail", "pipeline.errors.Unreadable")
    assert letter.message.startswith(reason)
    assert dict(made.headers)["postlog-content-type"] == b"application/json"


@given(st.binary(max_size=300).filter(lambda body: body.strip() != b"[]"))
def test_any_authentic_body_becomes_exactly_one_record(body: bytes) -> None:
    assert len(outgoing(body)) == 1


@pytest.mark.parametrize(
    ("given_as", "millis"),
    [
        ("2026-01-02T03:04:05.678Z", 1767323045678),
        ("2026-01-02T03:04:05", 1767323045000),
        ("2026-01-02T04:04:05+01:00", 1767323045000),
        (1767323045, 1767323045000),
        (1767323045.5, 1767323045500),
        ("9999-12-31T23:59:59Z", 253402300799000),
        ("2000-01-01T00:00:00Z", 946_684_800_000),
        # A field that was left at nothing, or seconds that were taken for milliseconds.
        *((never, None) for never in (0, "1970-01-01", "1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", 1767323)),
        ("yesterday", None),
        (-5, None),
        (1e300, None),
        (None, None),
    ],
)
def test_an_unreadable_time_is_unknown_and_costs_nothing_else(given_as: object, millis: int | None) -> None:
    body = {"id": "e", "type": "opened", "created_at": given_as, "data": {"email": "a@x.io"}}
    event = contract.decode(outgoing(json.dumps(body).encode())[0].value)
    assert event.occurred_at == millis
    assert event.type is EventType.OPENED


@pytest.mark.parametrize("written", ["true", '{"seconds":1}', "1e400", "9" * 5000, "[1]", "-1e400"])
def test_a_time_of_no_kind_costs_nothing_of_the_event(written: str) -> None:
    body = f'{{"id":"e","type":"complained","created_at":{written},"data":{{"email":"a@x.io"}}}}'
    (made,) = outgoing(body.encode())
    event = contract.decode(made.value)
    assert (made.topic, event.id, event.occurred_at) == ("events", "e", None)


@pytest.mark.parametrize("written", ['"' + "x" * 1025 + '"', "9" * 1025, '""'])
def test_an_id_that_is_of_no_use_is_none_and_costs_nothing_of_the_event(written: str) -> None:
    body = f'{{"id":{written},"type":"complained","data":{{"email":"a@x.io"}}}}'.encode()
    (made,), (again,) = outgoing(body), outgoing(body)
    event = contract.decode(made.value)
    assert (made.topic, event.id_basis, event.email) == ("events", "fingerprint", "a@x.io")
    assert contract.decode(again.value).id == event.id


@pytest.mark.parametrize("written", ["12345678901", "1.5", "true", "9" * 500])
def test_an_id_is_text_whatever_json_wrote_it_as(written: str) -> None:
    (made,) = outgoing(f'{{"id":{written},"type":"complained","data":{{"email":"a@x.io"}}}}'.encode())
    event = contract.decode(made.value)
    assert (event.id, event.id_basis) == (written, "id")


def test_a_byte_order_mark_before_a_body_is_skipped() -> None:
    one = b'{"id":"e","type":"complained","data":{"email":"a@x.io"}}'
    for body in (one, b"[" + one + b"]"):
        (made,) = outgoing(b"\xef\xbb\xbf" + body)
        assert contract.decode(made.value).id == "e"
        assert bytes(contract.decode(made.value).raw) == one


def test_a_well_formed_traceparent_travels_along_and_another_is_replaced() -> None:
    body = b'{"id":"e","type":"opened","data":{"email":"a@x.io"}}'
    theirs = TRACE.replace("4bf9", "beef")
    assert dict(outgoing(body, traceparent=theirs)[0].headers)["traceparent"] == theirs.encode()
    assert dict(outgoing(body, traceparent="00-zz")[0].headers)["traceparent"] == TRACE.encode()


def test_a_bug_in_a_reader_loses_nothing() -> None:
    def read(_: Delivery) -> list[object]:
        raise KeyError("surprise")

    broken = Provider(**{f: getattr(NEXUS, f) for f in NEXUS.__slots__} | {"read": read})
    (made,) = outgoing(b"{}", broken)
    assert made.topic == "dead_letters"
    assert "surprise" in deadletter.read(FakeRecord(0, b"", headers=made.headers)).message
