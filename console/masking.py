"""Dead letters without the person: addresses masked in payloads, keys and messages alike.

Pure. What always holds: of an address nothing is left but the domain, and of what a payload names as its recipient
nothing at all if it is no address, wherever in the letter it stands again. `--reveal` shows all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

_RUN = r"""[^\s@"<>,;:()\[\]{}]"""
#: The name in an address, in plain text, in a URL, or in a piece of JSON that does not parse. It starts where a run
#: of its characters does: tried from the middle of one too, a megabyte without blanks would take hours.
_NAME_AT = re.compile(rf"""(?:"[^"]*"|(?<!{_RUN}){_RUN}+)(@|%40|\\u0040)""")
_RECIPIENT = r"(?:e[-_]?mail|recipient|rcpt)(?:[-_]?(?:given|address|to))?"
#: Members of JSON objects that hold a recipient, whatever the provider calls them.
_NAMED = re.compile(_RECIPIENT, re.IGNORECASE)
#: The same in JSON that does not parse.
_MEMBER = re.compile(rf'("{_RECIPIENT}"\s*:\s*")[^"@]*(?=["@]|$)', re.IGNORECASE)


def text(given: str, recipients: Iterable[str] = ()) -> str:
    """Text with every address in it masked, and every one of these recipients."""
    for recipient in recipients:
        given = given.replace(recipient, "…")
    return _NAME_AT.sub(r"…\1", given)


def payload(value: bytes) -> tuple[str, list[str]]:
    """A payload as masked text, and the recipients in it that `text` has to be told of."""
    try:
        document = msgspec.json.decode(value)
        found: set[str] = set()
        _collect(document, found)
        # The longest first: one may be part of another.
        recipients = sorted(found, key=lambda name: (-len(name), name))
        return msgspec.json.encode(_masked(document, recipients)).decode(), recipients
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return text(_MEMBER.sub(r"\1…", shown(value))), []


def shown(value: bytes) -> str:
    """Bytes as text, whatever they are."""
    return value.decode(errors="backslashreplace")


def printable(given: str) -> str:
    """Text without what would move a terminal's cursor or ring its bell."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in given)


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
    """Whether this is a recipient of which the pattern for addresses would leave something."""
    if not isinstance(item, str) or not item.strip():
        return False
    match = _NAME_AT.match(item)
    return match is None or match.end() <= item.rfind("@")


def _masked(document: Any, recipients: list[str]) -> Any:
    if isinstance(document, str):
        return text(document, recipients)
    if isinstance(document, list):
        return [_masked(item, recipients) for item in document]
    if isinstance(document, dict):
        return {text(name): _masked(item, recipients) for name, item in document.items()}
    return document
