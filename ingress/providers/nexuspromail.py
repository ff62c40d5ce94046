"""NexusProMail: a JSON event per delivery or an array of them, signed over the raw body.

Pure. Header `X-NexusProMail-Signature` is the lowercase hex HMAC-SHA256 of the body. An event is
`{"id", "type", "created_at", "data": {"email", ...}}`; id and created_at may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from ingress import signatures
from ingress.delivery import Delivery, Garbled, Told
from pipeline.contract import explain
from pipeline.errors import Unreadable

SIGNATURE_HEADER = "X-NexusProMail-Signature"
#: Events that are taken from one delivery: an array of a million zeros is one dead letter, and not a million of them.
MOST_EVENTS = 10_000


class _Data(msgspec.Struct):
    email: str | None = None


class _Body(msgspec.Struct):
    type: str
    data: _Data
    id: str | None = None
    created_at: str | int | float | None = None


_decoder = msgspec.json.Decoder(_Body)
_items = msgspec.json.Decoder(list[msgspec.Raw])


def verify(delivery: Delivery, secrets: Sequence[bytes], now: float) -> None:
    """Return only if NexusProMail signed this body. Raises BadSignature."""
    signatures.hmac_sha256_hex(delivery.body, signature=delivery.headers.get(SIGNATURE_HEADER), secrets=secrets)


def read(delivery: Delivery) -> list[Told | Garbled]:
    """The events of a delivery, in its order; at least one. Raises Unreadable naming the field and the reason."""
    if delivery.body[:32].lstrip(b" \t\r\n")[:1] != b"[":
        return [_told(delivery.body)]
    try:
        items = _items.decode(delivery.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(explain(error)) from None
    if not 0 < len(items) <= MOST_EVENTS:
        raise Unreadable(f"value: an array of {len(items)} events, and not of 1 to {MOST_EVENTS}")
    return [_told_or_garbled(bytes(item)) for item in items]


def _told_or_garbled(raw: bytes) -> Told | Garbled:
    try:
        return _told(raw)
    except Unreadable as error:
        return Garbled(error, raw)


def _told(raw: bytes) -> Told:
    try:
        body = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(explain(error)) from None
    return Told(type=body.type, id=body.id, recipient=body.data.email, occurred_at=_millis(body.created_at), raw=raw)


def _millis(given: str | int | float | None) -> int | None:
    """A time as RFC 3339 text or seconds since the epoch, in ms. An unreadable one is unknown: it must not cost us
    the bounce that it is the time of."""
    try:
        if isinstance(given, str):
            moment = datetime.fromisoformat(given)
            given = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        millis = None if given is None else int(given * 1000)
    except (ValueError, OverflowError):
        return None
    return millis if millis is not None and 0 <= millis < 2**63 else None
