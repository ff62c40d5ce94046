"""What lookup says about an address, and which questions it understands."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookup import answers
from lookup.answers import Listing, Refused
from pipeline import suppression
from pipeline.contract import LONGEST_ADDRESS
from pipeline.suppression import Choice, Facts, Span, Suppression

NEW_YEAR = 1_767_225_600_000  # 2026-01-01T00:00:00Z

spans = st.builds(Span, st.integers(0, 2**45), st.integers(0, 2**45))
choices = st.builds(Choice, st.integers(0, 2**45), st.text(), st.sampled_from(["subscribed", "unsubscribed"]))
facts = st.builds(
    Facts,
    st.none() | spans,
    st.none() | spans,
    st.none() | choices,
    st.none() | st.integers(0, 2**45),
)


def suppressed(email: str = "a@example.com") -> bytes:
    return suppression.encode(Suppression.of(email, Facts(hard_bounce=Span(NEW_YEAR, NEW_YEAR + 1500))))


@given(facts)
def test_every_record_that_the_processor_writes_is_read_as_what_it_says(known: Facts) -> None:
    written = Suppression.of("a@example.com", known)
    row = answers.read(suppression.encode(written))
    assert (row.suppressed, row.causes, row.updated_at) == (written.suppressed, written.causes, written.updated_at)


def test_an_answer_holds_causes_and_times_as_people_read_them() -> None:
    found = msgspec.json.decode(msgspec.json.encode(answers.answer("a@example.com", suppressed())))
    assert found == {
        "email": "a@example.com",
        "suppressed": True,
        "causes": {"hard_bounce": {"first": "2026-01-01T00:00:00.000Z", "latest": "2026-01-01T00:00:01.500Z"}},
        "updated_at": "2026-01-01T00:00:01.500Z",
    }


def test_an_address_that_the_list_does_not_know_is_not_suppressed() -> None:
    found = msgspec.json.decode(msgspec.json.encode(answers.answer("a@example.com", None)))
    assert found == {"email": "a@example.com", "suppressed": False, "causes": {}, "updated_at": None}


def test_an_address_that_subscribed_again_is_known_and_not_suppressed() -> None:
    record = suppression.encode(Suppression.of("a@example.com", Facts(choice=Choice(NEW_YEAR, "1", "subscribed"))))
    found = answers.answer("a@example.com", record)
    assert (found.suppressed, found.causes, found.updated_at) == (False, {}, "2026-01-01T00:00:00.000Z")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"\xff",
        b"{}",
        b'{"v":2,"suppressed":false,"causes":{},"updated_at":0}',
        b'{"v":1,"suppressed":"no","causes":{},"updated_at":0}',
        b'{"v":1,"suppressed":false,"causes":{"mood":{"first":0,"latest":0}},"updated_at":0}',
    ],
)
def test_a_row_that_cannot_be_read_is_never_called_not_suppressed(value: bytes) -> None:
    found, short = answers.answer("a@example.com", value), answers.verdict("a@example.com", value)
    assert (found.suppressed, short.suppressed) == (None, None)
    assert "cannot be read" in found.error
    assert "cannot be read" in short.error
    assert answers.why_unreadable(b"a@example.com", value)


def test_the_reason_why_a_record_cannot_be_read_does_not_name_the_address() -> None:
    reason = answers.why_unreadable(b"secret@example.com", b'{"v":1,"email":"secret@example.com","suppressed":1}')
    assert reason
    assert "secret" not in reason


@pytest.mark.parametrize(("key", "value"), [(b"a@example.com", None), (b"a@example.com", suppressed())])
def test_tombstones_and_records_of_the_processor_are_readable(key: bytes, value: bytes | None) -> None:
    assert answers.why_unreadable(key, value) is None


@pytest.mark.parametrize("key", [None, b"\xff@example.com"])
def test_a_key_that_no_text_names_is_unreadable(key: bytes | None) -> None:
    assert answers.why_unreadable(key, suppressed())


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (NEW_YEAR + 7, "2026-01-01T00:00:00.007Z"),
        (-1, "1970-01-01T00:00:00.000Z"),
        (2**63, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_rfc_3339_with_milliseconds_and_never_an_error(milliseconds: int, text: str) -> None:
    assert answers.rfc3339(milliseconds) == text


@pytest.mark.parametrize(
    ("given_", "raw", "email"),
    [
        ("a@example.com", "/suppressions/a@example.com", "a@example.com"),
        (" A@Example.com", "/suppressions/%20A@Example.com", "a@example.com"),
        ("a+b@example.com", "/suppressions/a+b@example.com", "a+b@example.com"),
        ("50%@example.com", "/suppressions/50%25@example.com", "50%@example.com"),
    ],
)
def test_a_path_asks_for_the_normalised_address(given_: str, raw: str, email: str) -> None:
    assert answers.asked(given_, raw) == email


@pytest.mark.parametrize("text", ["check", "a@", "@b", "a b@example.com", "\0@example.com"])
def test_a_path_that_is_no_address_is_refused_with_the_cure(text: str) -> None:
    refused = answers.asked(text, f"/suppressions/{quote(text)}")
    assert isinstance(refused, Refused)
    assert refused.status == 400
    assert "local-part@domain" in refused.error


def test_a_path_in_another_encoding_is_not_looked_up_as_another_address() -> None:
    refused = answers.asked("jos%E9@example.com", "/suppressions/jos%E9@example.com")
    assert isinstance(refused, Refused)
    assert "UTF-8" in refused.error


def test_a_question_is_its_addresses_as_given() -> None:
    assert answers.question(b'{"emails": ["A@b.c", "nonsense", "A@b.c"]}') == ["A@b.c", "nonsense", "A@b.c"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "value"),
        (b"{", "value"),
        (b"[]", "value"),
        (b"{}", "emails"),
        (b'{"emails": "a@b.c"}', "emails"),
        (b'{"emails": ["a@b.c", 3]}', "emails[1]"),
        (b'{"emails": [], "email": 1}', "email"),
        (b'{"emails": ["\xff"]}', "value"),
    ],
)
def test_a_wrong_question_is_refused_naming_the_field(body: bytes, named: str) -> None:
    refused = answers.question(body)
    assert isinstance(refused, Refused)
    assert refused.status == 400
    assert named in refused.error
    assert '{"emails": [' in refused.error


def test_a_question_of_too_many_addresses_is_refused_with_the_limit() -> None:
    assert isinstance(answers.question(msgspec.json.encode({"emails": ["a@b.c"] * 10_000})), list)
    refused = answers.question(msgspec.json.encode({"emails": ["a@b.c"] * 10_001}))
    assert isinstance(refused, Refused)
    assert refused.status == 413
    assert "10001" in refused.error
    assert "10000" in refused.error


def test_the_body_limit_lets_the_longest_addresses_through_even_escaped() -> None:
    escaped = '"' + "\\u00e9" * (LONGEST_ADDRESS // 2) + '", '
    assert len(escaped) * answers.MOST_EMAILS + len('{"emails": []}') <= answers.LARGEST_BODY


@pytest.mark.parametrize(
    ("query", "listing"),
    [
        ({}, Listing("", 1000, True)),
        ({"after": "a@b.c", "limit": "0", "suppressed": "all"}, Listing("a@b.c", 0, None)),
        ({"suppressed": "false", "limit": "7"}, Listing("", 7, False)),
        ({"after": "a b@c.d"}, Listing("a+b@c.d", 1000, True)),
    ],
)
def test_a_query_says_which_rows_are_listed(query: dict[str, str], listing: Listing) -> None:
    assert answers.listing(query) == listing


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": ""}, "limit"),
        ({"suppressed": "yes"}, "suppressed"),
        ({"affter": "a@b.c"}, "affter"),
    ],
)
def test_a_wrong_query_is_refused_naming_the_parameter(query: dict[str, str], named: str) -> None:
    refused = answers.listing(query)
    assert isinstance(refused, Refused)
    assert refused.status == 400
    assert refused.error.startswith(f"{named}: ")


@pytest.mark.parametrize(
    ("wanted", "verdict", "given_out"),
    [
        (True, True, True),
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (None, True, True),
        (None, False, True),
        (True, None, True),
        (False, None, True),
    ],
)
def test_a_listing_gives_what_was_asked_for_and_always_what_cannot_be_read(
    wanted: bool | None, verdict: bool | None, given_out: bool
) -> None:
    found = answers.Answer("a@example.com", verdict, {}, None)
    assert answers.listed(Listing("", 0, wanted), found) is given_out
