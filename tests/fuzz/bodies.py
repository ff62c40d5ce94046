"""Bodies that somebody might send to see what breaks: bombs, lies and noise. The same seed makes the same.

Pure.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

#: What a body is made of at most, in bytes; the ingress takes 1 MiB.
LARGEST = 1024 * 1024
_WORDS = ("bounced.hard", "complained", "unsubscribed", "subscribed", "opened", "", "\x00", "bounced.hard ", "🙂")
_ADDRESSES = (
    "ann@example.com",
    "ANN@EXAMPLE.COM",
    " ann@example.com\n",
    "",
    "@",
    "a@b@c@d",
    "a" * 400 + "@x.io",
    "\u202eann@example.com",
    "e\u0301@x.io",
    "ann@example.com\x00@evil",
    '"quoted space"@x.io',
    "ann@" + "x." * 300,
)
_NUMBERS = (
    "-0",
    "1e400",
    "-1e400",
    "9" * 400,
    "0.1e-9999",
    "1E+2",
    "9223372036854775808",
    "1700000000.5",
    "NaN",
    "01",
)


def body(chance: random.Random) -> bytes:
    """One body."""
    return chance.choice(_KINDS)(chance)[:LARGEST]


def valid(chance: random.Random) -> bytes:
    """What a provider would send, or nearly."""
    made: dict[str, object] = {
        "id": chance.choice([f"evt_{chance.randrange(10**9)}", "", None, "i" * chance.randrange(2000), 7, []]),
        "type": chance.choice(_WORDS),
        "created_at": chance.choice([None, 1_700_000_000, -1, 1e308, "2026-01-31T12:00:00Z", "9999-99-99", "", {}]),
        "data": chance.choice([{"email": chance.choice(_ADDRESSES)}, {"email": None}, {}, [], None, {"email": 5}]),
    }
    for name in chance.sample(sorted(made), chance.choice([0, 0, 0, 1, 2])):
        del made[name]
    return json.dumps(made, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")


def _mutated(chance: random.Random) -> bytes:
    """A valid body with some bytes changed, cut out, doubled or put in."""
    made = bytearray(valid(chance))
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(made) + 1)
        what = chance.randrange(4)
        if what == 0:
            made[place:place] = chance.randbytes(chance.randrange(1, 5))
        elif what == 1:
            del made[place : place + chance.randrange(1, 10)]
        elif what == 2:
            made[place:place] = made[max(place - 20, 0) : place]
        elif made:
            made[place % len(made)] ^= 1 << chance.randrange(8)
    return bytes(made)


def _deep(chance: random.Random) -> bytes:
    """Nested too deep for whatever recurses."""
    depth = chance.choice([100, 1_000, 100_000])
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return (
        b'{"type":"complained","data":' + opening * depth + (b"1" + closing * depth if chance.random() < 0.5 else b"")
    )


def _wide(chance: random.Random) -> bytes:
    """Very many fields, or one field very often."""
    count = chance.choice([10, 1_000, 20_000])
    name = '"data"' if chance.random() < 0.5 else '"a%d"'
    fields = ",".join((name % number if "%" in name else name) + ':{"email":"a@x.io"}' for number in range(count))
    return b'{"type":"complained",' + fields.encode() + b"}"


def _number(chance: random.Random) -> bytes:
    """Numbers that are too large, or none."""
    number = chance.choice([*_NUMBERS, "9" * chance.randrange(1, 20_000)])
    return f'{{"id":"n","type":"complained","created_at":{number},"data":{{"email":"a@x.io","n":{number}}}}}'.encode()


def _text(chance: random.Random) -> bytes:
    """Strings that are no text: lone surrogates, broken UTF-8, control characters."""
    text = chance.choice(
        [rb"\ud800", rb"\udfff\ud800", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf", b"\n", rb"\u0000", b"\\"]
    )
    place = chance.choice([b'"id"', b'"type"', b'"email"'])
    fields = {b'"id"': b"x", b'"type"': b"complained", b'"email"': b"a@x.io"} | {place: text}
    return b'{"id":"%s","type":"%s","data":{"email":"%s"}}' % tuple(fields.values())


def _large(chance: random.Random) -> bytes:
    """A lot of one thing."""
    return chance.choice([b" ", b"\x00", b'"', b"[", b"{", b"\\u0000", b"9"]) * chance.choice([10, 5_000, 100_000])


def _noise(chance: random.Random) -> bytes:
    """Bytes of no kind, sometimes with the beginning of something."""
    start = chance.choice(
        [b"", b"", b"\x1f\x8b\x08", b"\xef\xbb\xbf", b"PK\x03\x04", b"<?xml", b"id=1&type=2", b"--x\r\n"]
    )
    return start + chance.randbytes(chance.choice([0, 1, 7, 100, 3_000]))


_KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    *(valid, valid, _mutated, _mutated, _mutated, _mutated, _number, _text, _text, _noise, _noise),
    *(_deep, _wide, _large),
)
