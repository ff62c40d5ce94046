"""What is kept about an address, and what the list therefore answers.

Pure; store.py keeps the rows, api.py sends the answers. A row is the answer made ready when its record comes: a
record comes once, and the questions never end. What always holds: an answer never guesses. A record that cannot be
read makes an answer without a verdict (`suppressed` is null) and with an `error`; it never says "not suppressed",
because somebody would then mail the address.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal, cast

import msgspec

from pipeline import contract
from pipeline.errors import Undecodable
from pipeline.suppression import Cause, Span, Word

#: Version of the rows. Change it whenever what `ready_made` writes changes, and every list is rebuilt.
LAYOUT = 3

#: First byte of a row. Behind the first two stand the causes with commas between them, a line feed, and an answer's
#: JSON, so that a verdict need not decode that; behind the last stands a record's value as it came.
_SUPPRESSED, _NOT_SUPPRESSED, _UNREAD = b"s", b"n", b"?"
_UNREAD_BYTE = _UNREAD[0]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 UTC, and printed so; without a zone it is written in half the time
_LAST_MILLI = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the last that RFC 3339 can write


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a record changes in the list: the row to put under a key, or (value None) that the key goes.

    key     None if nothing changes, because nobody could ask for such a key
    reason  why the record cannot be read, without its address; empty if it can
    """

    key: bytes | None
    value: bytes | None
    reason: str = ""


class KnownFacts(msgspec.Struct, frozen=True, gc=False):
    """The one fact that an answer shows as it is."""

    word: Word | None = None


class Known(msgspec.Struct, frozen=True, gc=False):
    """The fields of `pipeline.suppression.Suppression` that answers need; the others are not even decoded."""

    suppressed: bool
    causes: dict[Cause, Span]
    updated_at: int
    facts: KnownFacts = KnownFacts()
    v: Literal[1] = 1


class Times(msgspec.Struct, frozen=True, gc=False):
    """First and latest time of a cause, RFC 3339."""

    first: str
    latest: str


class Spoken(msgspec.Struct, frozen=True, gc=False):
    """An operator's latest word; at is RFC 3339."""

    type: Literal["suppressed", "reinstated"]
    who: str
    because: str
    at: str


class Answer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is known about one address. An address the list does not know is not suppressed; updated_at is None."""

    email: str
    suppressed: bool | None
    causes: dict[Cause, Times]
    updated_at: str | None
    operator: Spoken | None = None
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


_encode = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(Known).decode


def ready_made(email: str, value: bytes) -> bytes:
    """The row's value that a record makes. Raises Undecodable naming the field and the reason, never the address."""
    try:
        known = _read(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(contract.explain(error)) from None
    causes = {cause: Times(rfc3339(span.first), rfc3339(span.latest)) for cause, span in known.causes.items()}
    word = known.facts.word
    spoken = Spoken(word.type, word.who, word.because, rfc3339(word.at)) if word else None
    answer = Answer(email, known.suppressed, causes, rfc3339(known.updated_at), spoken)
    flag = _SUPPRESSED if known.suppressed else _NOT_SUPPRESSED
    return b"%b%b\n%b" % (flag, ",".join(known.causes).encode(), _encode(answer))


def row(key: bytes | None, value: bytes | None) -> Row:
    """What a record of the topic changes; total. A tombstone deletes.

    A record that cannot be read takes its address's row all the same. The row before it would be stale, and might say
    "not suppressed"; and a newer version, for which alone such a record may be meant, finds the value here and need
    not read the topic again.
    """
    try:
        email = (key or b"").decode()
    except UnicodeDecodeError:
        email = ""
    if not email:
        return Row(None, None, "key: it must be the address, in UTF-8")
    if value is None:
        return Row(key, None)
    try:
        return Row(key, ready_made(email, value))
    except Undecodable as error:
        return Row(key, _UNREAD + value, str(error))


def body(email: str, kept: bytes | None) -> tuple[int, bytes]:
    """HTTP status and JSON of the answer about a normalised address; kept is its row's value, None without a row."""
    if kept is None:
        return 200, _encode(Answer(email, False, {}, None))
    try:
        found = _read_row(email, kept)
    except Undecodable as error:
        return 500, _encode(Answer(email, None, {}, None, error=_do_not_mail(error)))
    return 200, found[found.index(b"\n") + 1 :]


def verdict(given: str, email: str, kept: bytes | None) -> Verdict:
    """The short answer about an address that was given as `given`; email and kept as in `body`."""
    if kept is None:
        return Verdict(given, False, ())
    try:
        found = _read_row(email, kept)
    except Undecodable as error:
        return Verdict(given, None, (), error=_do_not_mail(error))
    return Verdict(given, found[:1] == _SUPPRESSED, _causes(found[1 : found.index(b"\n")]))


def checked(results: list[Verdict]) -> Checked:
    """The whole answer to a check."""
    return Checked(results, sum(result.suppressed is True for result in results))


def stricter(kept: bytes | None, former: bytes | None) -> bytes | None:
    """Of an address's row and the one under its former key, the one that stands against mailing it."""
    if former is None or (kept is not None and kept[:1] != _NOT_SUPPRESSED):
        return kept
    return former if kept is None or former[:1] != _NOT_SUPPRESSED else kept


def listed(wanted: bool | None, kept: bytes) -> bool:
    """Does this row belong into a list of what is suppressed (True), what is not (False), or everything (None)?

    One that was not read always does, so that somebody sees it.
    """
    return wanted is None or kept[:1] != (_NOT_SUPPRESSED if wanted else _SUPPRESSED)


@lru_cache(maxsize=4096)  # the two or three times of one answer are mostly one and the same
def rfc3339(milliseconds: int) -> str:
    """A time since the epoch as `2026-01-01T00:00:00.000Z`; one beyond what that can write becomes the nearest."""
    moment = _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MILLI))
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def _read_row(email: str, kept: bytes) -> bytes:
    """The row's value, or what this version makes of one that the version which kept it could not read."""
    return ready_made(email, kept[1:]) if kept[0] == _UNREAD_BYTE else kept


@lru_cache(maxsize=256)  # there are few causes, and fewer ways in which they come together
def _causes(written: bytes) -> tuple[Cause, ...]:
    return cast("tuple[Cause, ...]", tuple(written.decode().split(",")) if written else ())


def _do_not_mail(error: Undecodable) -> str:
    return (
        f"the record about this address cannot be read ({error}): do not mail it; upgrade lookup or mend the record"
    )
