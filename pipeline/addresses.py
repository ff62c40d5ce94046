"""Which person a text names: the one form of an address that every stage uses as key.

Pure. What always holds: a text is bounded in octets before anything is done to it, what is unwrapped could mean
nobody else, and normalising twice changes nothing. In doubt a text is no address: a dead letter, a 400, an error of a
command, and never "may be mailed".
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

import idna

#: RFC 5321, 4.5.3.1, in octets: a path of 256 with its brackets, and a local part.
LONGEST_ADDRESS = 254
LONGEST_LOCAL = 64
#: Longest text that is looked at, in octets, with whatever is wrapped around an address.
LONGEST_GIVEN = 508
#: Most layers that are taken off one address.
MOST_WRAPPERS = 8

#: Nearly all addresses, in lower case: they cost one match.
_PLAIN = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}+@(?:(?!-)[a-z0-9_-]{1,63}+(?<!-)\.)++[a-z]{1,63}+").fullmatch
#: A local part in quotes that it does not need: the same mailbox as without (RFC 5321, 4.1.2).
_QUOTED = re.compile(r'"([^\s()<>\[\]:;@\\,".]+(?:\.[^\s()<>\[\]:;@\\,".]+)*)"').fullmatch
_DOMAIN = re.compile(r"(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z0-9_-]{1,63}(?<!-)").fullmatch
_LITERAL = re.compile(r"\[(ipv6:)?([0-9a-f:.]+)\]").fullmatch
_NAMED = re.compile(r'(?:"[^"\\]*"\s*|[^<>@"]*)<([^<>]*)>').fullmatch
_PREFIX = re.compile(r"(?:mailto|smtp)\s*:\s*|(?:rfc822|utf-8)\s*;\s*", re.IGNORECASE).match
_ROUTE = re.compile(r"@[^@:<>\s]+(?:,@[^@:<>\s]+)*:").match
_PORT = re.compile(r":\d{1,5}$")
_COMMENT = re.compile(r'\([^()@"\\]*\)')
_PAIRS = ("<>", '""', "''", "[]", "()")
#: What copying leaves at the ends: a byte order mark, marks of direction, blanks without width.
_ENDS = " \t\r\n\v\f\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def address(given: str) -> str | None:
    """The address in the one form that every stage uses as key, or None if no mail could go there.

    Lower case; the domain as DNS writes it (IDNA 2008, UTS 46 without transition), without the root's dot; the local
    part in NFKC. Brackets, quotes, `mailto:`, a display name, comments and what follows a list come off.
    Tags ("+news") stay: whether they are one mailbox is the receiving host's business.
    Idempotent: address(address(x)) == address(x).
    """
    if len(given) <= LONGEST_ADDRESS and _PLAIN(text := given.strip().lower()):
        return text
    # A text has no fewer octets than characters, and these are counted already.
    if len(given) > LONGEST_GIVEN or len(given.encode(errors="replace")) > LONGEST_GIVEN:
        return None
    return _canonical(_unwrapped(unicodedata.normalize("NFKC", given)))


def former(address: str) -> str | None:
    """The key that an earlier release gave this address, if that was another one: its domain as people write it."""
    if "xn--" not in address:
        return None
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{idna.decode(domain)}"
    except UnicodeError:
        return None


def _unwrapped(text: str) -> str:
    """The text without what can only be wrapped around an address."""
    for _ in range(MOST_WRAPPERS):
        before = text
        text = text.strip(_ENDS).rstrip(".,;/")
        if _is_wrapped(text):
            text = text[1:-1]
        if found := _NAMED(text):
            text = found[1]
        if opening := (_PREFIX(text) or _ROUTE(text)):
            text = text[opening.end() :]
        text = _PORT.sub("", text)
        if '"' not in text:
            text = _COMMENT.sub("", text)
        if text == before:
            break
    return text


def _is_wrapped(text: str) -> bool:
    """Whether the text stands between two signs that belong together. A domain never ends with an apostrophe, so that
    one at both ends is none of the name's; others within may be."""
    pair = text[:1] + text[-1:]
    return pair in _PAIRS and (pair == "''" or not set(pair) & set(text[1:-1]))


def _canonical(text: str) -> str | None:
    """The one form of what is unwrapped, None if it is no address."""
    local, _, domain = text.rpartition("@")
    local = unicodedata.normalize("NFKC", local.lower()).replace("ς", "σ")
    if quoted := _QUOTED(local):
        local = quoted[1]
    found = _domain(domain)
    if not found or not _is_local(local):
        return None
    made = f"{local}@{found}"
    return made if len(made.encode(errors="replace")) <= LONGEST_ADDRESS else None


def _is_local(local: str) -> bool:
    if not local or len(local.encode(errors="replace")) > LONGEST_LOCAL:
        return False
    # Of all white space only the blank counts as printable.
    if not local.isprintable() or " " in local:
        return False
    quoted = len(local) > 2 and local[0] == local[-1] == '"' and '"' not in local[1:-1]
    return quoted or not set(local) & set('()<>[]:;@\\,"')


def _domain(domain: str) -> str | None:
    """The domain as DNS writes it, None if it is none."""
    if not domain.isascii():
        try:
            mapped = idna.uts46_remap(domain, std3_rules=False, transitional=False)
            labels = mapped.replace("\u3002", ".").split(".")
            domain = ".".join(label if label.isascii() else idna.alabel(label).decode() for label in labels)
        except UnicodeError:  # of which idna's errors are
            return None
    domain = domain.lower().removesuffix(".")
    if literal := _LITERAL(domain):
        return _literal(bool(literal[1]), literal[2])
    # No top-level domain is a number: it is an IP address, or the end of something else.
    return domain if _DOMAIN(domain) and not domain.rpartition(".")[2].isdigit() else None


def _literal(six: bool, host: str) -> str | None:
    try:
        return f"[ipv6:{ipaddress.IPv6Address(host)}]" if six else f"[{ipaddress.IPv4Address(host)}]"
    except ValueError:
        return None
