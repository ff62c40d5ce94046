"""Texts without the person: of an address nothing is left but the domain.

Pure, and the only place that knows how: logs, alerts, metrics, health pages, errors and the command all ask here.
What always holds: whatever stands before an at sign, in any spelling, is hidden back to the last white space; masking
twice changes nothing; the work grows with the text's length and no faster. Mask first and cut then: a name whose at
sign was cut off looks like any other word. docs/decisions/0033-what-stands-before-an-at-sign-goes.md has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

#: What stands for a name.
MASK = "…"
#: Recipients that are no addresses are looked for one by one; a letter with more of them shows no text at all.
MOST_RECIPIENTS = 100

#: The at sign and the two that normalising makes one, as they are and as URLs, JSON, Python and HTML write them.
#: Every branch begins with a character of its own, which lets the search skip all others, and which none of its
#: repetitions can take, so that one that fails is not tried again from its middle.
_AT = re.compile(
    r"@|＠|﹫"
    r"|%(?:(?:25)*(?:40|EF%(?:25)*BC%(?:25)*A0|EF%(?:25)*B9%(?:25)*AB)|u(?:0000)?(?:0040|FF20|FE6B))"
    r"|\\(?:u(?:0000)?(?:0040|FF20|FE6B)|u\{0*(?:40|FF20|FE6B)\}|x(?:40|EF\\+xBC\\+xA0|EF\\+xB9\\+xAB))"
    r"|&(?:amp;)*(?:commat|#0*(?:64|65312|65131)|#x0*(?:40|FF20|FE6B));?",
    re.IGNORECASE,
)
#: A name may be quoted, or stand in brackets, and hold white space then: `"jane doe"@example.com`.
_OPENERS = MappingProxyType({'"': '"', "'": "'", ">": "<", "]": "[", "}": "{"})
_QUOTES = "\"'"
#: A comment may stand anywhere in a name: `jane(the doe)@example.com` is an address. Normalised, all of these are ().
_EDGE = re.compile(r"[\s(（⁽₍﹙︵)）⁾₎﹚︶]")
_OPENS, _CLOSES = "(（⁽₍﹙︵", ")）⁾₎﹚︶"

_RECIPIENT = r"(?:e[-_]?mail|recipient|rcpt)(?:[-_]?(?:given|address|to))?"
#: Members of JSON objects that hold a recipient, whatever the provider calls them.
_NAMED = re.compile(_RECIPIENT, re.IGNORECASE)
#: The same in JSON that does not parse.
_MEMBER = re.compile(rf'("{_RECIPIENT}"\s*:\s*")[^"@]*(?=["@]|$)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Name:
    """A name in a text: where it begins, where its at sign does, and where that ends."""

    begin: int
    at: int
    end: int


def text(given: str, recipients: Iterable[str] = ()) -> str:
    """Text with every address in it masked, and every one of these recipients. Without an at sign it is one scan."""
    for number, recipient in enumerate(recipients):
        if number >= MOST_RECIPIENTS:
            return MASK
        given = given.replace(recipient, MASK)
    if not _AT.search(given):
        return given
    pieces, done = [], 0
    for name in _names(given):
        if name.begin < name.at:
            pieces += [given[done : name.begin], MASK]
            done = name.at
    return "".join([*pieces, given[done:]])


def cut(given: str, longest: int) -> str:
    """Text masked, and then cut to at most `longest` characters."""
    found = text(given)
    return found if len(found) <= longest else f"{found[: longest - 1]}…"


def value(given: Any) -> Any:
    """A value of a log line or of a health page, with every text in it masked; keys of mappings too.

    What is neither a text nor made of them becomes its representation, if there is anything to mask in that.
    """
    match given:
        case None | bool() | int() | float():
            return given
        case dict():
            return {_plain(key): value(item) for key, item in given.items()}
        case list():
            return [value(item) for item in given]
        case _:
            return _plain(given)


def _plain(given: Any) -> Any:
    written = given if isinstance(given, str) else repr(given)
    masked = text(written)
    return given if masked == written else masked


def payload(given: bytes) -> tuple[str, list[str]]:
    """A payload as masked text, and the recipients in it that `text` has to be told of."""
    try:
        document = msgspec.json.decode(given)
        found: set[str] = set()
        _collect(document, found)
        # The longest first: one may be part of another.
        recipients = sorted(found, key=lambda name: (-len(name), name))
        return msgspec.json.encode(_masked(document, recipients)).decode(), recipients
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return text(_MEMBER.sub(rf"\1{MASK}", shown(given))), []


def shown(given: bytes) -> str:
    """Bytes as text, whatever they are."""
    return given.decode(errors="backslashreplace")


def _names(given: str) -> list[_Name]:
    """The names in a text, in order, with white space between them. Each character is looked at a few times."""
    found: list[_Name] = []
    for at in _AT.finditer(given):
        begin = _opener(given, at.start(), found[-1].end if found else 0)
        # A quoted name may hold at signs.
        while found and found[-1].end > begin:
            begin = min(begin, found.pop().begin)
        floor = found[-1].end if found else 0
        begin = floor + _last_word(given[floor:begin])
        if found and begin == floor:
            # No white space between two at signs: both are of one name, as far as anybody can tell.
            begin = found.pop().begin
        found.append(_Name(begin, at.start(), at.end()))
    return found


def _opener(given: str, end: int, floor: int) -> int:
    """Where the quotes or brackets open that close at the end; the end itself if there are none."""
    closer = given[end - 1 : end]
    if closer not in _OPENERS:
        return end
    # Nothing but the quote before this one is looked for, so at signs in between cost nothing.
    found = given.rfind(_OPENERS[closer], 0 if closer in _QUOTES else floor, end - 1)
    return end if found < 0 else found


def _last_word(given: str) -> int:
    """Where the last word of a text begins; white space in a comment does not end it."""
    # For every bracket that is still to be opened the first white space before it, as a place in the text.
    closed: list[int] = []
    for edge in _EDGE.finditer(given[::-1]):
        place = len(given) - edge.start()
        if edge[0] in _CLOSES:
            closed.append(0)
        elif edge[0] in _OPENS:
            del closed[-1:]
        elif not closed:
            return place
        else:
            closed[-1] = closed[-1] or place
    # A bracket that nobody opened is a character like any other.
    return max(closed, default=0)


def _collect(document: Any, found: set[str]) -> None:
    if isinstance(document, list):
        for item in document:
            _collect(item, found)
    elif isinstance(document, dict):
        for name, item in document.items():
            if _NAMED.fullmatch(name):
                found.update(filter(_is_odd, item if isinstance(item, list) else [item]))
            _collect(item, found)


def _is_odd(item: Any) -> bool:
    """Whether this is a recipient of which masking addresses would leave something."""
    if not isinstance(item, str) or not item.strip():
        return False
    names = _names(item)
    return len(names) != 1 or names[0].begin == names[0].at or bool(item[: names[0].begin].strip())


def _masked(document: Any, recipients: list[str]) -> Any:
    if isinstance(document, str):
        return text(document, recipients)
    if isinstance(document, list):
        return [_masked(item, recipients) for item in document]
    if isinstance(document, dict):
        return {text(name): _masked(item, recipients) for name, item in document.items()}
    return document
