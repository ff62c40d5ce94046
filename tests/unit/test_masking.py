"""What of a dead letter may be shown without being asked to."""

from __future__ import annotations

import json
import time

import pytest

from console import masking
from pipeline import contract
from tests.unit.records import event


@pytest.mark.parametrize(
    ("given", "masked"),
    [
        ("ann@example.com", "…@example.com"),
        ("to ann.o'neil+tag@example.com, bob@x.io", "to …@example.com, …@x.io"),
        ('"ann lee"@x.io', "…@x.io"),
        ("/suppressions/ann%40x.io", "…%40x.io"),
        (r"ann\u0040x.io", r"…\u0040x.io"),
        ("jürgen@müller.example", "…@müller.example"),
        ("a\0b@x.io", "…@x.io"),
        ("no address here", "no address here"),
    ],
)
def test_names_in_addresses_are_masked(given: str, masked: str) -> None:
    assert masking.text(given) == masked


@pytest.mark.parametrize(
    "written",
    [
        b'{"data":{"email":"ann@example.com"}}',
        rb'{"data":{"email":"ann\u0040example.com"}}',
        b'{"data":{"email":"ann@example.com"},"note":["for ann@example.com"]}',
        b'{"ann@example.com":1}',
        b'{"data":{"email":"ann@example.com"',
        b"ann@example.com",
        b'\xff{"email":"ann@example.com"}',
        b'{"email":' + b"[" * 5000,
        b'{"email":["ann@example.com","ann and bob"]}',
        b'{"data":{"email":"ann at example.com"},"note":"ann at example.com"}',
        b'{"data":{"email":"ann at example.com", oops',
        b'{"rcpt_to":"ann lee@example.com"}',
    ],
)
def test_no_recipient_is_left_in_a_payload(written: bytes) -> None:
    shown, _ = masking.payload(written)
    assert "ann" not in shown


def test_an_event_of_ours_shows_all_but_the_person() -> None:
    shown, recipients = masking.payload(contract.encode(event("ann@example.com")))
    document = json.loads(shown)
    assert (document["email"], document["type"], document["id"]) == ("…@example.com", "hard_bounce", "evt_1")
    assert recipients == []


def test_a_recipient_that_is_no_address_is_masked_in_key_and_messages_too() -> None:
    _, recipients = masking.payload(b'{"email_given":"ann at example.com"}')
    assert masking.text("email: ann at example.com is no address", recipients) == "email: … is no address"


def test_a_megabyte_without_blanks_is_masked_in_linear_time() -> None:
    started = time.monotonic()
    masking.payload(b"x" * 1_000_000)
    masking.payload(b'"' * 1_000_000)
    assert time.monotonic() - started < 5


def test_nothing_shown_moves_the_cursor() -> None:
    assert masking.printable("a\x1b[2Jb\r\n") == "a\\x1b[2Jb\\r\n"
