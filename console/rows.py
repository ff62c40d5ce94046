"""Rows of a suppression list in a file: how they are read, what events they are, and how a list becomes rows.

Pure. Two formats hold the same five fields: CSV, of which list_layout.py tells the columns, and JSON objects, one to
a line. What always holds: a row's event has the same id whenever and from whatever file it is read, and the rows of
an exported list, imported, say again what the list said, also if a spreadsheet saved them meanwhile.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from console import formulas, list_layout
from console.known import Known
from console.list_layout import FIELDS, Layout
from pipeline import contract, operators
from pipeline.contract import Event, EventType
from pipeline.errors import PostlogError
from pipeline.operators import LONGEST_BECAUSE, LONGEST_WHO, Said
from pipeline.suppression import Cause

Format = Literal["csv", "ndjson"]
TYPES: Mapping[Cause, EventType] = {
    "hard_bounce": EventType.HARD_BOUNCE,
    "complaint": EventType.COMPLAINT,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "operator": EventType.SUPPRESSED,
}
#: The first line of a file for Excel alone.
_SEPARATOR_NAMED = re.compile(r'"?sep=.?"?\s*', re.IGNORECASE).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A row as it stands in the file; empty text is a field that is not given."""

    email: str
    cause: str = ""
    at: str = ""
    because: str = ""
    who: str = ""


class Entry(msgspec.Struct, frozen=True):
    """A valid row: address normalised, at in ms or None."""

    email: str
    cause: Cause
    at: int | None
    because: str
    who: str


class Bad(msgspec.Struct, frozen=True):
    """A line that is no row, counted from 1, and why."""

    line: int
    reason: str


class _Wrong(ValueError):
    """Why a row is refused; its line is added outside."""


_decode_row = msgspec.json.Decoder(Row).decode
_encode = msgspec.json.Encoder().encode


def format_of(name: str) -> Format:
    """The format to write that a file's extension names. Raises PostlogError."""
    return _by_extension(name, {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"})


def format_to_read(name: str) -> Format:
    """The format to read that a file's extension names. Raises PostlogError."""
    plain: Mapping[str, Format] = {".csv": "csv", ".txt": "csv", ".tsv": "csv", ".tab": "csv"}
    return _by_extension(name, {**plain, ".ndjson": "ndjson", ".jsonl": "ndjson"})


def _by_extension(name: str, known: Mapping[str, Format]) -> Format:
    found = next((form for suffix, form in known.items() if name.lower().endswith(suffix)), None)
    if found is None:
        raise PostlogError(f"{name}: ends with none of {', '.join(known)}, so say which format it has")
    return found


def entries(
    lines: Iterable[bytes], form: Format, notice: Callable[[Layout], None] = lambda _: None
) -> Iterator[Entry | Bad]:
    """Every row of a file in order, blank lines left out; notice is told how a CSV file is laid out.

    Raises PostlogError for a first line that does not tell.
    """
    return _csv(lines, notice) if form == "csv" else _ndjson(lines)


def _ndjson(lines: Iterable[bytes]) -> Iterator[Entry | Bad]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _entry(number, lambda line=line: _decode_row(line))  # type: ignore[misc]


def _csv(lines: Iterable[bytes], notice: Callable[[Layout], None]) -> Iterator[Entry | Bad]:
    # What is not UTF-8 becomes a character that no field may hold, so its row is refused by name. A spreadsheet's
    # first three bytes may be a mark of UTF-8.
    texts = (line.decode("utf-8-sig", errors="surrogateescape") for line in lines)
    above, first = 1, next(texts, "")
    if _SEPARATOR_NAMED(first):
        above, first = 2, next(texts, "")
    layout = list_layout.of(first.rstrip("\r\n"), above)
    notice(layout)
    if layout.heading:
        yield from _table(texts, layout, above)
    else:
        yield from _addresses(itertools.chain([first], texts), above)


def _addresses(texts: Iterable[str], first: int) -> Iterator[Entry | Bad]:
    for number, text in enumerate(texts, start=first):
        if text.strip():
            yield _entry(number, lambda text=text: Row(formulas.bare(text.strip())))  # type: ignore[misc]


def _table(texts: Iterable[str], layout: Layout, above: int) -> Iterator[Entry | Bad]:
    reader = csv.reader(texts, delimiter=layout.separator, strict=True)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Bad(above + reader.line_num, str(error))
            continue
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield _entry(above + reader.line_num, lambda fields=fields: _row(layout, fields))  # type: ignore[misc]


def _row(layout: Layout, fields: list[str]) -> Row:
    columns = layout.columns
    # Spreadsheets end lines with empty fields.
    if len(fields) < len(columns) or any(field.strip() for field in fields[len(columns) :]):
        raise _Wrong(
            f"{len(fields)} fields, the headings name {len(columns)}; quote a field that holds a {layout.separator!r}"
        )
    return Row(**{name: formulas.bare(field) for name, field in zip(columns, fields, strict=False)})


def _entry(number: int, read: Callable[[], Row]) -> Entry | Bad:
    try:
        return _checked(read())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Bad(number, contract.explain(error))
    except _Wrong as error:
        return Bad(number, str(error))


def _checked(row: Row) -> Entry:
    email = contract.address(row.email)
    if email is None:
        raise _Wrong(f"email: {row.email[:80]!r} is not an address like someone@example.com")
    named = row.cause.strip() or "operator"
    cause = next((cause for cause in TYPES if cause == named), None)
    if cause is None:
        raise _Wrong(f"cause: {named[:80]!r} is none of {', '.join(TYPES)}")
    try:
        at = millis(row.at.strip()) if row.at.strip() else None
    except ValueError:
        raise _Wrong(f"at: {row.at[:80]!r} is not a time like 2026-01-31T12:00:00Z") from None
    because = text("because", row.because, LONGEST_BECAUSE)
    return Entry(email, cause, at, because, text("who", row.who, LONGEST_WHO))


def text(name: str, given: str, longest: int) -> str:
    """One line of text, trimmed. Raises ValueError naming the field and what is wrong with it."""
    found = given.strip()
    if not found.isprintable():
        raise _Wrong(f"{name}: must be one line of printable text, in UTF-8")
    if len(found) > longest:
        raise _Wrong(f"{name}: longer than {longest} characters")
    return found


def millis(given: str) -> int:
    """An RFC 3339 time in ms since the epoch. Raises ValueError, also for one without an offset or before 1970."""
    moment = datetime.fromisoformat(given)
    if moment.tzinfo is None:
        raise ValueError("no offset from UTC")
    found = (moment - _EPOCH) // timedelta(milliseconds=1)
    if found < 0:
        raise ValueError("before 1970")
    return found


def event(entry: Entry, *, now: int, who: str, because: str, otherwise: str = "") -> Event:
    """The event that a row is. A row's own who and because count before those given for all.

    otherwise  why, if neither says so; no part of the id, for it may name the file
    now        ms; no part of the id either, so a row without a time is the same event whenever it is read
    """
    why = entry.because or because
    parts = (entry.email, entry.cause, "" if entry.at is None else str(entry.at), why, entry.who)
    return operators.event(
        entry.email,
        TYPES[entry.cause],
        Said(entry.who or who, why or otherwise),
        id=contract.fingerprint(*(part.encode() for part in parts)),
        id_basis="fingerprint",
        now=now,
        at=entry.at,
    )


def rows_of(known: Known) -> Iterator[Row]:
    """The rows that say what the list says about one address: one for each cause, two if it came more than once."""
    for cause, times in known.causes.items():
        if cause == "operator" and known.operator:
            yield Row(known.email, cause, times.latest, known.operator.because, known.operator.who)
        else:
            for at in dict.fromkeys((times.first, times.latest)):
                yield Row(known.email, cause, at)


def heading(form: Format) -> bytes:
    """What a file of this format begins with."""
    return _csv_line(FIELDS) if form == "csv" else b""


def line(row: Row, form: Format) -> bytes:
    """A row's line in a file of this format, UTF-8."""
    return _csv_line(msgspec.structs.astuple(row)) if form == "csv" else _encode(row) + b"\n"


def _csv_line(fields: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(formulas.guarded, fields))
    return text.getvalue().encode()
