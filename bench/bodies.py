"""What do senders post? NexusProMail deliveries of about 300 bytes an event, signed in advance.

Pure but for `write`. The number-th event is always the same; each has an id and an address of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from console.sample import SHARES

#: A hundred names, so that a number below 100 picks a type by its share.
_TYPES = [name for name, share in SHARES.items() for _ in range(share)]
#: The first event's time, one second before the next.
_START = datetime(2025, 1, 1, tzinfo=UTC)
#: Events in a file at least, and deliveries, where those are large.
EVENTS, DELIVERIES = 20_000, 64
#: Where NexusProMail posts.
PATH = b"/webhooks/email"


def identity(number: int) -> str:
    """The id of the number-th event."""
    return f"evt_{number:016d}"


def event(number: int) -> bytes:
    """The number-th event, as JSON on one line."""
    return msgspec.json.encode(
        {
            "id": identity(number),
            # 37 and 100 have no common divisor, so types alternate and keep their shares.
            "type": _TYPES[number * 37 % 100],
            "created_at": _START + timedelta(seconds=number),
            "data": {
                "email": f"person{number}@example.com",
                "message_id": f"<{number:08d}.7f3a@mail.example.net>",
                "campaign": f"newsletter-{number % 50}",
                "recipient_host": "mx1.example.com",
                "smtp_response": "250 2.0.0 OK: queued for delivery to the mailbox",
            },
        }
    )


def batch(numbers: Iterable[int]) -> bytes:
    """A delivery of several events: a JSON array."""
    return b"[" + b",".join(event(number) for number in numbers) + b"]"


def signature(body: bytes, secret: str) -> str:
    """What NexusProMail's header says of this body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def deliveries(size: int | None) -> Iterator[bytes]:
    """Bodies to post, all different: of one event each, or arrays of `size`."""
    if size is None:
        yield from map(event, range(EVENTS))
        return
    for number in range(max(EVENTS // size, DELIVERIES)):
        yield batch(range(number * size, (number + 1) * size))


def write(path: Path, size: int | None, secret: str) -> Path:
    """A file for wrk.lua, unless it is there: a line per delivery."""
    if not path.exists():
        with path.open("wb") as file:
            for body in deliveries(size):
                file.write(b"%b\t%b\t%b\n" % (PATH, signature(body, secret).encode(), body))
    return path
