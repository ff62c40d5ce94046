"""Rows of a suppression list in a file, and the events they are."""

from __future__ import annotations

import csv
import io
import re
from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import formulas, rows
from console.known import Known, Spoken, Times, describe
from console.list_layout import Layout
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


@pytest.mark.parametrize("heading", ["", "a@x.io,b", "cause", "email,reason", "email,email"])
def test_headings_that_are_not_ours_are_refused(heading: str) -> None:
    with pytest.raises(PostlogError, match=r"line 1: .*email"):
        read(f"{heading}\na@x.io,b\n")


@given(st.binary(max_size=200), st.sampled_from(["csv", "ndjson"]))
def test_any_bytes_are_rows_or_named(data: bytes, form: Format) -> None:
    for found in read(b"email,because\n" + data if form == "csv" else data, form):
        assert isinstance(found, Entry | Bad)


@pytest.mark.parametrize(("name", "form"), [("a.csv", "csv"), ("A.CSV", "csv"), ("x.ndjson", "ndjson")])
def test_the_extension_says_the_format(name: str, form: str) -> None:
    assert rows.format_of(name) == rows.format_to_read(name) == form
    with pytest.raises(PostlogError, match="say which"):
        rows.format_of(f"{name}.xls")


@pytest.mark.parametrize("name", ["a.txt", "a.TSV", "a.tab"])
def test_plain_and_tabbed_text_is_read_and_not_written(name: str) -> None:
    assert rows.format_to_read(name) == "csv"
    with pytest.raises(PostlogError, match="say which"):
        rows.format_of(name)


TWO = [("a@x.io", "complaint", None), ("b@x.io", "operator", None)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Email Address,Cause\na@x.io,complaint\nb@x.io,\n", "columns email, cause separated by commas"),
        ("e-mail;cause\na@x.io;complaint\nb@x.io;\n", "columns email, cause separated by semicolons"),
        ("cause\tE-Mail-Adresse\ncomplaint\ta@x.io\n\tb@x.io\n", "columns cause, email separated by tabs"),
        (
            'sep=;\r\n"Email";"Cause"\r\na@x.io;"complaint"\r\nb@x.io;\r\n',
            "columns email, cause separated by semicol",
        ),
        ("email;cause;;\na@x.io;complaint;;\nb@x.io;;;\n", "columns email, cause separated by semicolons"),
        ("email,cause\ra@x.io,complaint\rb@x.io,\r", "columns email, cause separated by commas"),
    ],
)
def test_a_table_is_taken_whatever_separates_it_and_however_its_address_is_called(text: str, told: str) -> None:
    layouts: list[Layout] = []
    lines = [line.encode() for line in io.StringIO(text, newline="")]
    found = list(rows.entries(lines, "csv", layouts.append))
    assert [(e.email, e.cause, e.at) for e in found if isinstance(e, Entry)] == TWO
    assert len(found) == 2
    assert layouts[0].told.startswith(told)
    assert layouts[0].as_exported is text.startswith("email,")


@pytest.mark.parametrize("end", ["\n", "\r\n", ",\n", ";\r\n"])
def test_a_file_may_be_one_address_per_line(end: str) -> None:
    layouts: list[Layout] = []
    text = f'\ufeffA@x.io{end}"b,c"@x.io{end}\n<c@x.io>{end}'
    found = list(rows.entries(text.encode().splitlines(keepends=True), "csv", layouts.append))
    assert [e.email for e in found if isinstance(e, Entry)] == ["a@x.io", '"b,c"@x.io', "c@x.io"]
    assert len(found) == 3
    assert layouts[0].told == "one address per line, without a heading"


def test_a_bad_line_of_a_plain_list_is_named() -> None:
    _, bad, after = read("a@x.io\nnobody\nb@x.io,c@x.io\n")
    assert isinstance(bad, Bad)
    assert isinstance(after, Bad)
    assert (bad.line, after.line) == (2, 3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a@x.io;complaint", "holds an email address and more"),
        ("complaint,a@x.io", "holds an email address and more"),
        ("Email Address;First Name", "column 'first name' is not known"),
        ("Email;Address", "two columns are email"),
        ("Name;Reason", "column 'name' is not known"),
    ],
)
def test_a_first_line_that_could_mean_something_else_is_refused(line: str, reason: str) -> None:
    with pytest.raises(PostlogError, match=f"line 1: {reason}"):
        read(f"{line}\nb@x.io;x\n")


DANGEROUS = ["=cmd|x@example.com", "+49@example.com", "-a@example.com", "'=a@example.com", "=a'@example.com"]
SPREADSHEETS = [(",", "\n"), (";", "\r\n"), ("\t", "\r\n")]


FORMULA = re.compile('"*[=+\\-@＝＋－＠\t\r]').match


@given(st.lists(st.text(st.sampled_from("=+-@'\";,\t ax＝"), max_size=8), min_size=5, max_size=5))
def test_no_cell_of_an_export_is_a_formula_and_a_field_comes_back(fields: list[str]) -> None:
    assert [formulas.bare(formulas.guarded(field)) for field in fields] == fields
    guarded = [formulas.guarded(field) for field in fields]
    for separator in ",;\t":
        text = io.StringIO()
        csv.writer(text, delimiter=separator, lineterminator="").writerow(guarded)
        own = next(csv.reader([text.getvalue()], delimiter=separator))
        assert own == guarded
        assert not any(re.match("[=+\\-@＝\t]", cell) for cell in own)
    for field in guarded:
        assert not any(FORMULA(cell) for cell in re.split("[;\t]", field)[1:])


@pytest.mark.parametrize("email", DANGEROUS)
@pytest.mark.parametrize(("separator", "end"), SPREADSHEETS)
def test_an_export_that_a_spreadsheet_saved_says_the_same_again(email: str, separator: str, end: str) -> None:
    known = Known(email, suppressed=True, causes=LISTED.causes, operator=EVIL)
    exported = rows.heading("csv") + b"".join(rows.line(row, "csv") for row in rows.rows_of(known))
    assert b"\n=" not in exported
    table = list(csv.reader(io.StringIO(exported.decode())))
    saved = io.StringIO()
    csv.writer(saved, delimiter=separator, lineterminator=end).writerows(table)
    found = read(saved.getvalue().encode("utf-8-sig"))
    assert found == read(exported)
    assert {entry.email for entry in found if isinstance(entry, Entry)} == {email}
    words = [entry for entry in found if isinstance(entry, Entry) and entry.cause == "operator"]
    assert [(word.who, word.because) for word in words] == [(EVIL.who, EVIL.because)]


def test_a_field_that_was_never_guarded_stays_as_it_is() -> None:
    for field in ("=cmd|x@example.com", "o'hara@example.com", "'quoted'", "it's; so", "x", ""):
        assert formulas.bare(field) == field


EVIL = Spoken("suppressed", "@me", '=HYPERLINK("http://x.example";"y");=2', "2023-11-14T11:00:00.000Z")
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
