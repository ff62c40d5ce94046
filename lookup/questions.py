"""Which questions the API understands.

Pure: texts in, a question or a refusal out; api.py owns HTTP. A refusal names the part that is wrong and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from pipeline import contract
from pipeline.contract import LONGEST_ADDRESS

#: Most addresses in one check.
MOST_EMAILS = 10_000
#: Largest body of a check, in bytes: JSON may write two octets of an address as six (`\u00e9`).
LARGEST_BODY = MOST_EMAILS * (3 * LONGEST_ADDRESS + 8)
#: Rows that a listing gives when the question names no limit.
DEFAULT_LIMIT = 1000

#: A target whose address begins with a slash too many or a step: clients and proxies take these away or add them. Who
#: takes us for a proxy puts the host before it.
_STEP = re.compile(r"(?:https?://[^/?#]*)?/suppressions/(?:\.|%2e){0,2}/", re.IGNORECASE).match

NO_ADDRESS = "not an address that mail could go to; give it as local-part@domain"
_FILTERS: Mapping[str, bool | None] = {"true": True, "false": False, "all": None}


class Listing(msgspec.Struct, frozen=True):
    """Which rows to list: those behind `after` in key order, at most `limit` (0: all), only those that
    are suppressed, only those that are not, or (None) both."""

    after: str
    limit: int
    suppressed: bool | None


class Refused(msgspec.Struct, frozen=True):
    """A question that has no answer: the HTTP status, and what is wrong with it and how to mend that."""

    status: int
    error: str


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a check."""

    emails: list[str]


_decode = msgspec.json.Decoder(Check).decode


def address(given: str, raw_path: str) -> str | Refused:
    """The normalised address that a path asks for.

    given     the decoded part of the path, as the router found it
    raw_path  the target of the request, as it came
    """
    if "%" in given:
        # What is not UTF-8 stays percent-encoded in `given`: it would be looked up as another address, and not found.
        try:
            unquote(raw_path, errors="strict")
        except UnicodeDecodeError:
            return Refused(400, "email: percent-encode the address as UTF-8")
    if _STEP(raw_path):
        # `//ann@example.com` or `./ann@example.com` would be looked up as another address, and not found.
        return Refused(400, "email: a slash too many, or a step like ./ in the path; write a slash as %2F")
    return contract.address(given) or Refused(400, f"email: {NO_ADDRESS}")


def emails(body: bytes) -> list[str] | Refused:
    """The addresses of a check's body, as given."""
    try:
        given = _decode(body).emails
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Refused(400, f'{contract.explain(error)}. Send {{"emails": ["someone@example.com"]}}')
    if len(given) > MOST_EMAILS:
        return too_many(f"emails: {len(given)} addresses")
    return given


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
        return Refused(400, f"limit: {limit[:40]!r} is not a number of rows; 0 means all")
    suppressed = query.get("suppressed", "true")
    if suppressed not in _FILTERS:
        return Refused(400, f"suppressed: {suppressed[:40]!r} is none of {', '.join(_FILTERS)}")
    # In a query string "+" reads as a space. No address holds one, so it was a plus that nobody percent-encoded.
    after = query.get("after", "").replace(" ", "+")
    return Listing(after, int(limit), _FILTERS[suppressed])
