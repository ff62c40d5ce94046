"""Which questions lookup understands, and how it refuses the others."""

from __future__ import annotations

from urllib.parse import quote, unquote

import msgspec
import pytest

from lookup import questions
from lookup.questions import Listing, Refused
from pipeline.contract import LONGEST_ADDRESS


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
    assert questions.address(given_, raw) == email


@pytest.mark.parametrize("text", ["check", "a@", "@b", "a b@example.com", "\0@example.com"])
def test_a_path_that_is_no_address_is_refused_with_the_cure(text: str) -> None:
    refused = questions.address(text, f"/suppressions/{quote(text)}")
    assert isinstance(refused, Refused)
    assert refused.status == 400
    assert "local-part@domain" in refused.error


@pytest.mark.parametrize("host", ["", "http://127.0.0.1:8083", "HTTPS://lookup.example.com"])
@pytest.mark.parametrize(
    ("given_", "path"),
    [
        ("/ann@example.com", "/ann@example.com"),
        ("//ann@example.com", "//ann@example.com"),
        *((f"{step}a@x.io", f"{step}a@x.io") for step in ("./", "../suppressions/")),
        *((f"{unquote(step)}a@x.io", f"{step}a@x.io") for step in ("%2e/", "%2E%2e/")),
    ],
)
def test_a_path_with_a_slash_too_many_or_a_step_is_refused_and_never_another_address(
    given_: str, path: str, host: str
) -> None:
    refused = questions.address(given_, f"{host}/suppressions/{path}")
    assert isinstance(refused, Refused)
    assert refused.status == 400
    assert "%2F" in refused.error
    assert questions.address("/b@example.com", f"{host}/suppressions/%2Fb@example.com") == "/b@example.com"
    assert questions.address("b@example.com", f"{host}/suppressions/b@example.com?x=//") == "b@example.com"


def test_a_path_in_another_encoding_is_not_looked_up_as_another_address() -> None:
    refused = questions.address("jos%E9@example.com", "/suppressions/jos%E9@example.com")
    assert isinstance(refused, Refused)
    assert "UTF-8" in refused.error


def test_a_question_is_its_addresses_as_given() -> None:
    assert questions.emails(b'{"emails": ["A@b.c", "nonsense", "A@b.c"]}') == ["A@b.c", "nonsense", "A@b.c"]


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
    refused = questions.emails(body)
    assert isinstance(refused, Refused)
    assert refused.status == 400
    assert named in refused.error
    assert '{"emails": [' in refused.error


def test_a_question_of_too_many_addresses_is_refused_with_the_limit() -> None:
    assert isinstance(questions.emails(msgspec.json.encode({"emails": ["a@b.c"] * 10_000})), list)
    refused = questions.emails(msgspec.json.encode({"emails": ["a@b.c"] * 10_001}))
    assert isinstance(refused, Refused)
    assert refused.status == 413
    assert "10001" in refused.error
    assert "10000" in refused.error


def test_the_body_limit_lets_the_longest_addresses_through_even_escaped() -> None:
    escaped = '"' + "\\u00e9" * (LONGEST_ADDRESS // 2) + '", '
    assert len(escaped) * questions.MOST_EMAILS + len('{"emails": []}') <= questions.LARGEST_BODY


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
    assert questions.listing(query) == listing


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
    refused = questions.listing(query)
    assert isinstance(refused, Refused)
    assert refused.status == 400
    assert refused.error.startswith(f"{named}: ")
