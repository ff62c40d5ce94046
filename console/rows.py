"""Rows of a suppression list in a file: how they are read, what events they are, and how a list becomes rows.

Pure. Two formats hold the same five fields: CSV with a line of headings, and JSON objects, one to a line. What always
holds: a row's event has the same id whenever and from whatever file it is read, and the rows of an exported list,
imported, say again what the list said.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from console.known import Known
from pipeline import contract, operators
from pipeline.contract import Event, EventType
from pipeline.errors import PostlogError
from pipeline.operators import LONGEST_BECAUSE, LONGEST_WHO, Said
from pipeline.suppression import Cause

Format = Literal["csv", "ndjson"]
FIELDS = ("email", "cause", "at", "because", "who")
TYPES: Mapping[Cause, EventType] = {
    "hard_bounce": EventType.HARD_BOUNCE,
    "complaint": EventType.COMPLAINT,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "operator": EventType.SUPPRESSED,
}
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
    """The format that a file's extension names. Raises PostlogError."""
    for suffix, found in ((".csv", "csv"), (".ndjson", "ndjson"), (".jsonl", "ndjson")):
        if name.lower().endswith(suffix):
            return found  # type: ignore[return-value]
    raise PostlogError(f"{name}: neither .csv nor .ndjson, so say which format it has")


def entries(lines: Iterable[bytes], form: Format) -> Iterator[Entry | Bad]:
    """Every row of a file in order, blank lines left out. Raises PostlogError for headings that are not ours."""
    return _csv(lines) if form == "csv" else _ndjson(lines)


def _ndjson(lines: Iterable[bytes]) -> Iterator[Entry | Bad]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _entry(number, lambda line=line: _decode_row(line))  # type: ignore[misc]


def _csv(lines: Iterable[bytes]) -> Iterator[Entry | Bad]:
    # What is not UTF-8 becomes a character that no field may hold, so its row is refused by name. A spreadsheet's
    # first three bytes may be a mark of UTF-8.
    reader = csv.reader((line.decode("utf-8-sig", errors="surrogateescape") for line in lines), strict=True)
    try:
        headings = [heading.strip().lower() for heading in next(reader, [])]
    except csv.Error as error:
        raise PostlogError(f"line 1: {error}") from None
    _check_headings(headings)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Bad(reader.line_num, str(error))
            continue
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield _entry(reader.line_num, lambda fields=fields: _row(headings, fields))  # type: ignore[misc]


def _check_headings(headings: list[str]) -> None:
    unknown = [heading for heading in headings if heading not in FIELDS]
    if "email" not in headings or unknown or len(set(headings)) < len(headings):
        wrong = f"column {unknown[0]!r} is not known" if unknown else "give email once, and no column twice"
        raise PostlogError(f"line 1: {wrong}. The first line names the columns: email, and if wished {FIELDS[1:]}")


def _row(headings: list[str], fields: list[str]) -> Row:
    if len(fields) != len(headings):
        raise _Wrong(f"{len(fields)} fields, the headings name {len(headings)}; quote a field that holds a comma")
    return Row(**dict(zip(headings, fields, strict=True)))


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
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
