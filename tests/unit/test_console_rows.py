"""Rows of a suppression list in a file, and the events they are."""

from __future__ import annotations

from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import rows
from console.known import Known, Spoken, Times, describe
from console.rows import Bad, Entry, Format
from pipeline import operators
from pipeline.contract import Event, EventType
from pipeline.errors import PostlogError
from pipeline.suppression import Cause, Facts
from processor.suppressions import facts_of, join

NOON = 1_700_000_000_000
MORNING = "2023-11-14T09:00:00.000Z"


def read(text: str | bytes, form: Format = "csv") -> list[Entry | Bad]:
    data = text.encode() if isinstance(text, str) else text
    return list(rows.entries(data.splitlines(keepends=True), form))


def event(line: str, *, heading: str = "email,cause,at,because,who", now: int = NOON, **more: str) -> Event:
    (entry,) = read(f"{heading}\n{line}\n")
    assert isinstance(entry, Entry), entry
    return rows.event(entry, now=now, **{"who": "me", "because": ""} | more)


def test_only_the_address_is_needed_and_the_rest_has_a_default() -> None:
    made = event(" Ann@Example.com ", heading="email", because="moved", otherwise="import of x.csv")
    assert (made.email, made.type, made.provider, made.at) == (
        "ann@example.com",
        EventType.SUPPRESSED,
        "operator",
        NOON,
    )
    assert operators.said(made) == operators.Said("me", "moved")
    assert operators.said(event("a@x.io", heading="email", otherwise="import of x.csv")).because == "import of x.csv"


@pytest.mark.parametrize("cause", rows.TYPES)
def test_a_row_of_a_cause_makes_that_cause_stand_since_its_time(cause: Cause) -> None:
    made = event(f"a@x.io,{cause},{MORNING},why,you")
    found = facts_of(made, NOON).causes()
    assert {name: (span.first, span.latest) for name, span in found.items()} == {
        cause: (rows.millis(MORNING), rows.millis(MORNING))
    }
    assert operators.said(made) == operators.Said("you", "why")


def test_the_same_row_is_the_same_event_whenever_and_from_whatever_file() -> None:
    csv = event("A@x.io , operator,,why,")
    (entry,) = read('{"because": "why", "email": "a@x.io"}\n', "ndjson")
    assert isinstance(entry, Entry)
    other = rows.event(entry, now=NOON + 1, who="somebody else", because="", otherwise="import of other")
    assert csv.id == other.id
    assert csv.id_basis == "fingerprint"


def test_rows_that_say_something_else_are_other_events() -> None:
    lines = [
        "a@x.io,,,,",
        "b@x.io,,,,",
        "a@x.io,complaint,,,",
        f"a@x.io,,{MORNING},,",
        "a@x.io,,,why,",
        "a@x.io,,,,me",
    ]
    assert len({event(line).id for line in lines}) == len(lines)


def test_a_spreadsheets_marks_blank_lines_and_quotes_are_read() -> None:
    text = b'\xef\xbb\xbfEmail,Because\r\na@x.io,"first, second"\r\n\r\n,\r\n"b@x.io","""so"""\r\n'
    assert [(e.email, e.because) for e in read(text) if isinstance(e, Entry)] == [
        ("a@x.io", "first, second"),
        ("b@x.io", '"so"'),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nobody,,,,", "email: 'nobody' is not an address"),
        (b"a@x.io,boredom,,,", "cause: 'boredom' is none of hard_bounce"),
        (b"a@x.io,,yesterday,,", "at: 'yesterday' is not a time"),
        (b"a@x.io,,2026-01-01T00:00:00,,", "at: "),
        (b"a@x.io,,1969-01-01T00:00:00Z,,", "at: "),
        (b"a@x.io,,,\xff,", "because: must be one line of printable text, in UTF-8"),
        (b"\xff@x.io,,,,", "email: "),
        (b"a@x.io,,," + b"y" * 1001 + b",", "because: longer than 1000"),
        (b"a@x.io,,,one,two,three", "6 fields, the headings name 5"),
        (b"a@x.io", "1 fields"),
        (b'"a"b,,,,', "expected after"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reason(line: bytes, reason: str) -> None:
    good, bad, after = read(b"email,cause,at,because,who\ng@x.io,,,,\n" + line + b"\nh@x.io,,,,\n")
    assert isinstance(good, Entry)
    assert isinstance(bad, Bad)
    assert isinstance(after, Entry)
    assert bad.line == 3
    assert reason in bad.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "truncated"),
        (b"[1]", "Expected `object`"),
        (b'{"cause":"operator"}', "email"),
        (b'{"email":5}', "email: "),
        (b'{"email":"a@x.io","reason":"x"}', "unknown field `reason`"),
        (b'{"email":"\xff"}', "utf-8"),
        (b"[" * 100_000, ""),
    ],
)
def test_a_bad_json_line_is_named_with_its_number_and_reason(line: bytes, reason: str) -> None:
    good, bad = read(b'{"email":"g@x.io"}\n\n' + line, "ndjson")
    assert isinstance(good, Entry)
    assert isinstance(bad, Bad)
    assert bad.line == 3
    assert reason in bad.reason


@pytest.mark.parametrize("heading", ["", "a@x.io", "cause", "email,reason", "email,email"])
def test_headings_that_are_not_ours_are_refused(heading: str) -> None:
    with pytest.raises(PostlogError, match=r"line 1: .*email"):
        read(f"{heading}\na@x.io,b\n")


@given(st.binary(max_size=200), st.sampled_from(["csv", "ndjson"]))
def test_any_bytes_are_rows_or_named(data: bytes, form: Format) -> None:
    for found in read(b"email,because\n" + data if form == "csv" else data, form):
        assert isinstance(found, Entry | Bad)


@pytest.mark.parametrize(("name", "form"), [("a.csv", "csv"), ("A.CSV", "csv"), ("x.ndjson", "ndjson")])
def test_the_extension_says_the_format(name: str, form: str) -> None:
    assert rows.format_of(name) == form
    with pytest.raises(PostlogError, match="say which"):
        rows.format_of(f"{name}.xls")


LISTED = Known(
    '"a,b"@x.io',
    suppressed=True,
    causes={
        "hard_bounce": Times(MORNING, "2023-11-14T10:00:00.123Z"),
        "complaint": Times(MORNING, MORNING),
        "operator": Times("2023-11-14T11:00:00.000Z", "2023-11-14T11:00:00.000Z"),
    },
    updated_at="2023-11-14T11:00:00.000Z",
    operator=Spoken("suppressed", "me@here", 'he said "no", twice', "2023-11-14T11:00:00.000Z"),
)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_exported_address_imported_says_the_same_again(form: Format) -> None:
    text = rows.heading(form) + b"".join(rows.line(row, form) for row in rows.rows_of(LISTED))
    found = read(text, form)
    assert all(isinstance(entry, Entry) for entry in found)
    events = [rows.event(e, now=NOON * 2, who="x", because="y") for e in found if isinstance(e, Entry)]
    facts = reduce(join, [facts_of(made, NOON) for made in events], Facts())
    assert {c: (s.first, s.latest) for c, s in facts.causes().items()} == {
        c: (rows.millis(t.first), rows.millis(t.latest)) for c, t in LISTED.causes.items()
    }
    assert facts.word
    assert (facts.word.who, facts.word.because) == ("me@here", 'he said "no", twice')


def test_an_old_export_does_not_undo_a_later_word() -> None:
    (entry,) = read(f"email,cause,at\na@x.io,hard_bounce,{MORNING}\n")
    assert isinstance(entry, Entry)
    later = operators.event("a@x.io", EventType.REINSTATED, operators.Said(), id="1", id_basis="id", now=NOON)
    again = rows.event(entry, now=NOON + 5, who="", because="")
    assert join(facts_of(again, NOON + 5), facts_of(later, NOON)).causes() == {}


def test_people_read_who_said_it_and_why() -> None:
    assert 'operator  at 2023-11-14T11:00:00.000Z by me@here: he said "no", twice' in describe(LISTED)
    back = msgspec.structs.replace(
        LISTED, suppressed=False, causes={}, operator=Spoken("reinstated", "me", "mended", MORNING)
    )
    assert describe(back).endswith(f"reinstated  at {MORNING} by me: mended")
