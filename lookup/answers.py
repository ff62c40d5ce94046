"""What the API says about an address, and which questions it understands.

Pure: texts and a row of the list in, answers out; api.py owns HTTP and the store. What always holds: an answer
never guesses. A row that cannot be read makes an answer without a verdict (`suppressed` is null) and with an
`error`; it never says "not suppressed", because somebody would then mail the address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

import msgspec

from pipeline import contract
from pipeline.contract import LONGEST_ADDRESS
from pipeline.errors import Undecodable
from pipeline.suppression import Cause, Span

#: Most addresses in one check.
MOST_EMAILS = 10_000
#: Largest body of a check, in bytes: JSON may write two octets of an address as six (`\u00e9`).
LARGEST_BODY = MOST_EMAILS * (3 * LONGEST_ADDRESS + 8)
#: Rows that a listing gives when the question names no limit.
DEFAULT_LIMIT = 1000

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 UTC, and printed so; without a zone it is written in half the time
_LAST_MILLI = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the last that RFC 3339 can write


class Row(msgspec.Struct, frozen=True, gc=False):
    """The fields of `pipeline.suppression.Suppression` that answers need; the others are not even decoded."""

    suppressed: bool
    causes: dict[Cause, Span]
    updated_at: int
    v: Literal[1] = 1


class Times(msgspec.Struct, frozen=True, gc=False):
    """First and latest time of a cause, RFC 3339."""

    first: str
    latest: str


class Answer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is known about one address. An address the list does not know is not suppressed; updated_at is None."""

    email: str
    suppressed: bool | None
    causes: dict[Cause, Times]
    updated_at: str | None
    error: str = ""


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One result of a check; email is the text that was asked, suppressed is None if there is an error."""

    email: str
    suppressed: bool | None
    causes: Sequence[Cause]
    error: str = ""


class Checked(msgspec.Struct, frozen=True):
    """The results of a check in the order of the question; suppressed counts those that must not be mailed."""

    results: list[Verdict]
    suppressed: int


class Listing(msgspec.Struct, frozen=True):
    """Which rows to list: those behind `after` in key order, at most `limit` (0: all), only those that
    are suppressed, only those that are not, or (None) both."""

    after: str
    limit: int
    suppressed: bool | None


class Next(msgspec.Struct, frozen=True):
    """The last line of a listing: what to ask `after` next, None if this was the end of the list."""

    next: str | None


class Refused(msgspec.Struct, frozen=True):
    """A question that has no answer: the HTTP status, and what is wrong with it and how to mend that."""

    status: int
    error: str


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a check."""

    emails: list[str]


_read = msgspec.json.Decoder(Row).decode
_ask = msgspec.json.Decoder(Question).decode


def read(value: bytes) -> Row:
    """The row in a record's value. Raises Undecodable naming the field and the reason."""
    try:
        return _read(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(contract.explain(error)) from None


def is_text(key: bytes) -> bool:
    """Can anybody ask for this key? One that is not UTF-8 has no text that would name it."""
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def why_unreadable(key: bytes | None, value: bytes | None) -> str | None:
    """Why a record of the topic cannot be answered from, without its address; None if it can (or is a tombstone)."""
    if key is None or not is_text(key):
        return "key: it must be the address in UTF-8"
    try:
        if value is not None:
            read(value)
    except Undecodable as error:
        return str(error)
    return None


def answer(email: str, value: bytes | None) -> Answer:
    """What the list says about a normalised address; value is the address's row, None if it has none."""
    if value is None:
        return Answer(email, False, {}, None)
    try:
        row = read(value)
    except Undecodable as error:
        return Answer(email, None, {}, None, error=_unreadable(error))
    causes = {cause: Times(rfc3339(span.first), rfc3339(span.latest)) for cause, span in row.causes.items()}
    return Answer(email, row.suppressed, causes, rfc3339(row.updated_at))


def verdict(given: str, value: bytes | None) -> Verdict:
    """The short answer about an address as it was given; value as in `answer`."""
    if value is None:
        return Verdict(given, False, ())
    try:
        row = read(value)
    except Undecodable as error:
        return Verdict(given, None, (), error=_unreadable(error))
    return Verdict(given, row.suppressed, tuple(row.causes))


def no_address(given: str) -> Verdict:
    """The result for an item of a check that is no address: the other items still get theirs."""
    return Verdict(given, None, (), error=_NO_ADDRESS)


def checked(results: list[Verdict]) -> Checked:
    """The whole answer to a check."""
    return Checked(results, sum(result.suppressed is True for result in results))


def listed(listing: Listing, found: Answer) -> bool:
    """Does this row belong into the listing? A row without a verdict always does, so that somebody sees it."""
    return listing.suppressed is None or found.suppressed is None or found.suppressed is listing.suppressed


def asked(given: str, raw_path: str) -> str | Refused:
    """The normalised address that a path asks for; given is the decoded part of the path, raw_path all of it."""
    if "%" in given:
        # What is not UTF-8 stays percent-encoded in `given`: it would be looked up as another address, and not found.
        try:
            unquote(raw_path, errors="strict")
        except UnicodeDecodeError:
            return Refused(400, "email: percent-encode the address as UTF-8")
    return contract.address(given) or Refused(400, f"email: {_NO_ADDRESS}")


def question(body: bytes) -> list[str] | Refused:
    """The addresses of a check's body, as given."""
    try:
        emails = _ask(body).emails
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Refused(400, f'{contract.explain(error)}. Send {{"emails": ["someone@example.com"]}}')
    if len(emails) > MOST_EMAILS:
        return too_many(f"emails: {len(emails)} addresses")
    return emails


def too_many(what: str) -> Refused:
    """The refusal of a check that is too large."""
    return Refused(413, f"{what}, but one check takes {MOST_EMAILS} addresses at most: send them in parts")


def listing(query: Mapping[str, str]) -> Listing | Refused:
    """The rows that a query string asks for: `after`, `limit`, `suppressed`."""
    unknown = sorted(query.keys() - {"after", "limit", "suppressed"})
    if unknown:
        return Refused(400, f"{unknown[0]}: not a parameter; there are after, limit and suppressed")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 18):
        return Refused(400, f"limit: {limit!r} is not a number of rows; 0 means all")
    suppressed = query.get("suppressed", "true")
    if suppressed not in _FILTERS:
        return Refused(400, f"suppressed: {suppressed!r} is none of {', '.join(_FILTERS)}")
    # In a query string "+" reads as a space. No address holds one, so it was a plus that nobody percent-encoded.
    after = query.get("after", "").replace(" ", "+")
    return Listing(after, int(limit), _FILTERS[suppressed])


@lru_cache(maxsize=4096)  # the two or three times of one answer are mostly one and the same
def rfc3339(milliseconds: int) -> str:
    """A time since the epoch as `2026-01-01T00:00:00.000Z`; one beyond what that can write becomes the nearest."""
    moment = _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MILLI))
    return f"{moment.isoformat(timespec='milliseconds')}Z"


_FILTERS: Mapping[str, bool | None] = {"true": True, "false": False, "all": None}
_NO_ADDRESS = "not an address that mail could go to; give it as local-part@domain"


def _unreadable(error: Undecodable) -> str:
    return (
        f"the record about this address cannot be read ({error}): do not mail it; upgrade lookup or mend the record"
    )
