"""Requests as no provider would send them, as bytes on a connection. The same seed makes the same.

Pure. All of them are unsigned, or signed wrongly: nothing that they carry may be kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import bodies

PATH = b"/webhooks/email"
SIGNATURE = b"X-NexusProMail-Signature"
_HOST = b"Host: 127.0.0.1\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """What to send, and whether an answer is due without more of it."""

    kind: str
    sent: bytes
    answered: bool = True


def request(chance: random.Random) -> Request:
    """One request."""
    make = chance.choice(_KINDS)
    return make(chance)


def post(body: bytes, signature: bytes) -> bytes:
    """A delivery as it should be."""
    head = b"POST %s HTTP/1.1\r\n%s%s: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (PATH, _HOST, SIGNATURE, signature, len(body)) + body


def _forged(chance: random.Random) -> Request:
    signature = chance.choice(
        [b"", b"0" * 64, b"f" * 10_000, b"\xff" * 64, b"sha256=" + b"0" * 64, b"null", b"0" * 63]
    )
    return Request("forged", post(bodies.body(chance), signature))


def _two_signatures(chance: random.Random) -> Request:
    body = bodies.valid(chance)
    head = b"POST %s HTTP/1.1\r\n%s%s: %s\r\n%s: %s\r\nContent-Length: %d\r\n\r\n"
    return Request(
        "two signatures", head % (PATH, _HOST, SIGNATURE, b"0" * 64, SIGNATURE, b"1" * 64, len(body)) + body
    )


def _length(chance: random.Random) -> Request:
    """A Content-Length that is no number, or several, or a wrong one."""
    body = b"{}"
    length = chance.choice(
        [b"-1", b"+2", b"0x2", b"2, 2", b"1e1", b"", b"9" * 30, b"two", b"\xb2", b"2\r\nContent-Length: 3"]
    )
    return Request("length", b"POST %s HTTP/1.1\r\n%sContent-Length: %s\r\n\r\n%s" % (PATH, _HOST, length, body))


def _too_long(chance: random.Random) -> Request:
    """More announced than ever comes."""
    length = chance.choice([3, 100, 1024 * 1024, 10**12])
    return Request("too long", b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n{}" % (PATH, _HOST, length))


def _smuggled(chance: random.Random) -> Request:
    """Two ways to tell the length that contradict each other, or a second request inside of the first one's body."""
    inner = b"POST %s HTTP/1.1\r\n%sContent-Length: 2\r\n\r\n{}" % (PATH, _HOST)
    how = chance.choice(
        [
            b"Content-Length: 4\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding: chunked, identity",
            b"Content-Length: 0",
        ]
    )
    return Request("smuggled", b"POST %s HTTP/1.1\r\n%s%s\r\n\r\n0\r\n\r\n%s" % (PATH, _HOST, how, inner))


def _chunked(chance: random.Random) -> Request:
    """Chunks of wrong sizes, with long extensions, or with no end."""
    chunk = chance.choice(
        [
            b"zz\r\n{}\r\n0\r\n\r\n",
            b"-2\r\n{}\r\n0\r\n\r\n",
            b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
            b"2;" + b"x=y;" * chance.choice([1, 5_000]) + b"\r\n{}\r\n0\r\n\r\n",
            b"1\r\n{\r\n1\r\n}\r\n0\r\nTrailer: " + b"t" * chance.choice([1, 20_000]) + b"\r\n\r\n",
            b"1\r\n{\r\n" * 2_000 + b"0\r\n\r\n",
            b"2\n{}\n0\n\n",
            b"2\r\n{}XX0\r\n\r\n",
        ]
    )
    return Request("chunked", b"POST %s HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%s" % (PATH, _HOST, chunk))


def _headers(chance: random.Random) -> Request:
    """Too many, too long, or malformed ones."""
    flood = chance.choice(
        [
            b"".join(b"X-%d: y\r\n" % number for number in range(chance.choice([50, 500, 20_000]))),
            b"X: " + b"y" * chance.choice([8_000, 9_000, 300_000]) + b"\r\n",
            b"y" * 20_000 + b": x\r\n",
            b" folded: x\r\n",
            b"X: a\r\n\tb\r\n",
            b"NoColon\r\n",
            b": empty\r\n",
            b"X\x00Y: z\r\n",
            b"X: \x00\r\n",
            b"X: a\rb\r\n",
            b"Host: other\r\n" * 5,
            b"Connection: " + b"close, " * 2_000 + b"x\r\n",
            b"Expect: 100-continue\r\n",
            b"Expect: something\r\n",
            b"Upgrade: websocket\r\nConnection: upgrade\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Content-Encoding: " + b"gzip, " * 100 + b"br\r\n",
            b"Content-Type: multipart/form-data\r\n",
            b"Cookie: " + b"a=b; " * 1_500 + b"\r\n",
            b"traceparent: 00-" + b"\xff" * 32 + b"\r\n",
        ]
    )
    body = b"{}"
    return Request(
        "headers", b"POST %s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s" % (PATH, _HOST, flood, len(body), body)
    )


def _path(chance: random.Random) -> Request:
    """Paths that are not there, or nearly."""
    path = chance.choice(
        [
            *(b"/", b"//webhooks/email", b"/webhooks/email/", b"/webhooks//email", b"/Webhooks/Email", b"*", b""),
            *(
                b"/webhooks/../webhooks/email",
                b"/webhooks/%2e%2e/health/live",
                b"/webhooks%2femail",
                b"/%00",
                b"/%zz",
            ),
            *(
                b"/webhooks/email?" + b"a=b&" * 1_500,
                b"/webhooks/email#x",
                b"/webhooks/email;x",
                b"/\xff\xfe",
                b"/..;/",
            ),
            *(
                b"http://evil/webhooks/email",
                b"http://[::1",
                b"evil:443",
                b"/" + b"a" * 9_000,
                b"/etc/passwd",
                b"/metrics/..",
            ),
        ]
    )
    method = chance.choice([b"POST", b"GET", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH"])
    return Request(
        "path", b"%s %s HTTP/1.1\r\n%sContent-Length: 2\r\nConnection: close\r\n\r\n{}" % (method, path, _HOST)
    )


def _line(chance: random.Random) -> Request:
    """First lines that are none."""
    line = chance.choice(
        [
            *(
                b"POST /webhooks/email",
                b"POST /webhooks/email HTTP/0.9",
                b"POST /webhooks/email HTTP/9.9",
                b"GET / HTTP/1.1 x",
            ),
            *(b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00", b"POST\t/webhooks/email\tHTTP/1.1", b"P\xffST / HTTP/1.1"),
            *(
                b"post /webhooks/email HTTP/1.1",
                b"A" * 9_000 + b" / HTTP/1.1",
                b" POST / HTTP/1.1",
                b"\x00",
                b"HELO x",
            ),
        ]
    )
    return Request("line", line + b"\r\n" + _HOST + b"Content-Length: 0\r\n\r\n")


def _pipelined(chance: random.Random) -> Request:
    """Very many at once."""
    return Request("pipelined", post(b"{}", b"0" * 64) * chance.choice([2, 20, 200]))


def _noise(chance: random.Random) -> Request:
    return Request("noise", chance.randbytes(chance.choice([1, 50, 5_000])) + b"\r\n\r\n", answered=False)


def _cut(chance: random.Random) -> Request:
    """A request that ends in the middle."""
    whole = request_of(chance)
    return Request("cut", whole[: chance.randrange(1, len(whole))], answered=False)


def request_of(chance: random.Random) -> bytes:
    """A forged delivery with a small body."""
    return post(bodies.valid(chance), b"0" * 64)


_KINDS: tuple[Callable[[random.Random], Request], ...] = (
    *(_forged,) * 8,
    *(_two_signatures, _length, _smuggled, _chunked, _headers, _path, _line, _pipelined, _noise),
    *(_too_long, _cut),
)
