"""What lookup keeps about an address, and what it answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookup import answers
from pipeline import suppression
from pipeline.suppression import Choice, Facts, Span, Suppression, Word

NEW_YEAR = 1_767_225_600_000  # 2026-01-01T00:00:00Z
BOUNCED = Facts(hard_bounce=Span(NEW_YEAR, NEW_YEAR + 1500))
CAME_BACK = Facts(choice=Choice(NEW_YEAR, "1", "subscribed"))
UNREADABLE = [
    b"",
    b"null",
    b"\xff",
    b"{}",
    b'{"v":2,"suppressed":false,"causes":{},"updated_at":0}',
    b'{"v":1,"suppressed":"no","causes":{},"updated_at":0}',
    b'{"v":1,"suppressed":false,"causes":{"mood":{"first":0,"latest":0}},"updated_at":0}',
]

times = st.integers(0, 2**45)
spans = st.builds(Span, times, times)
choices = st.builds(Choice, times, st.text(), st.sampled_from(["subscribed", "unsubscribed"]))
words = st.builds(Word, times, st.text(), st.sampled_from(["suppressed", "reinstated"]), st.text(), st.text())
facts = st.builds(
    Facts, st.none() | spans, st.none() | spans, st.none() | choices, st.none() | times, st.none() | words
)


def record(known: Facts, email: str = "a@example.com") -> bytes:
    return suppression.encode(Suppression.of(email, known))


def kept(value: bytes, key: bytes = b"a@example.com") -> bytes:
    row = answers.row(key, value)
    assert row.key == key
    assert row.value is not None
    return row.value


def answer(row: bytes | None) -> tuple[int, Any]:
    status, body = answers.body("a@example.com", row)
    return status, msgspec.json.decode(body)


@given(facts)
def test_every_record_that_the_processor_writes_is_answered_as_what_it_says(known: Facts) -> None:
    written = Suppression.of("a@example.com", known)
    row = kept(suppression.encode(written))
    word = known.word and {
        "type": known.word.type,
        "who": known.word.who,
        "because": known.word.because,
        "at": answers.rfc3339(known.word.at),
    }
    assert answer(row) == (
        200,
        ({"operator": word} if word else {})
        | {
            "email": written.email,
            "suppressed": written.suppressed,
            "causes": {
                cause: {"first": answers.rfc3339(span.first), "latest": answers.rfc3339(span.latest)}
                for cause, span in written.causes.items()
            },
            "updated_at": answers.rfc3339(written.updated_at),
        },
    )
    short = answers.verdict("A@example.com", "a@example.com", row)
    assert (short.email, short.suppressed, set(short.causes)) == (
        "A@example.com",
        written.suppressed,
        set(written.causes),
    )


def test_an_answer_holds_causes_and_times_as_people_read_them() -> None:
    assert answer(kept(record(BOUNCED))) == (
        200,
        {
            "email": "a@example.com",
            "suppressed": True,
            "causes": {"hard_bounce": {"first": "2026-01-01T00:00:00.000Z", "latest": "2026-01-01T00:00:01.500Z"}},
            "updated_at": "2026-01-01T00:00:01.500Z",
        },
    )


def test_an_address_that_the_list_does_not_know_is_not_suppressed() -> None:
    expected = {"email": "a@example.com", "suppressed": False, "causes": {}, "updated_at": None}
    assert answer(None) == (200, expected)
    assert answers.verdict("a@example.com", "a@example.com", None).suppressed is False


def test_an_address_that_subscribed_again_is_known_and_not_suppressed() -> None:
    _, found = answer(kept(record(CAME_BACK)))
    assert (found["suppressed"], found["causes"], found["updated_at"]) == (False, {}, "2026-01-01T00:00:00.000Z")


def test_a_tombstone_takes_the_row_away() -> None:
    assert answers.row(b"a@example.com", None) == answers.Row(b"a@example.com", None)


@pytest.mark.parametrize("value", UNREADABLE)
def test_a_record_that_cannot_be_read_is_never_answered_as_not_suppressed(value: bytes) -> None:
    row = kept(value)
    status, found = answer(row)
    assert (status, found["suppressed"]) == (500, None)
    assert "cannot be read" in found["error"]
    short = answers.verdict("a@example.com", "a@example.com", row)
    assert short.suppressed is None
    assert "cannot be read" in short.error
    assert answers.row(b"a@example.com", value).reason


def test_a_record_that_an_older_version_could_not_read_is_answered_by_one_that_can() -> None:
    unread = kept(b"")
    assert answer(unread + record(BOUNCED)) == answer(kept(record(BOUNCED)))
    assert answers.verdict("a@example.com", "a@example.com", unread + record(BOUNCED)).suppressed is True


def test_the_reason_why_a_record_cannot_be_read_does_not_name_the_address() -> None:
    reason = answers.row(b"secret@example.com", b'{"v":1,"email":"secret@example.com","suppressed":1}').reason
    assert reason
    assert "secret" not in reason


@pytest.mark.parametrize("key", [None, b"", b"\xff@example.com"])
@pytest.mark.parametrize("value", [None, record(BOUNCED)])
def test_a_record_whose_key_no_text_names_changes_nothing_and_says_why(
    key: bytes | None, value: bytes | None
) -> None:
    row = answers.row(key, value)
    assert (row.key, row.value) == (None, None)
    assert row.reason.startswith("key: ")


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
    ("wanted", "value", "given_out"),
    [
        (True, record(BOUNCED), True),
        (True, record(CAME_BACK), False),
        (False, record(BOUNCED), False),
        (False, record(CAME_BACK), True),
        (None, record(BOUNCED), True),
        (None, record(CAME_BACK), True),
        (True, b"", True),
        (False, b"", True),
    ],
)
def test_a_listing_gives_what_was_asked_for_and_always_what_was_not_read(
    wanted: bool | None, value: bytes, given_out: bool
) -> None:
    assert answers.listed(wanted, kept(value)) is given_out


def test_a_check_counts_what_must_not_be_mailed() -> None:
    rows = [kept(record(BOUNCED)), kept(record(CAME_BACK)), kept(b""), None, kept(record(BOUNCED))]
    results = [answers.verdict("a@example.com", "a@example.com", row) for row in rows]
    assert answers.checked(results).suppressed == 2
