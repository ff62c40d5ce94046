"""NexusProMail: a JSON event per delivery or an array of them, signed over the raw body.

Pure. Header `X-NexusProMail-Signature` is the lowercase hex HMAC-SHA256 of the body. An event is
`{"id", "type", "created_at", "data": {"email", ...}}`; all but the type may be missing.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from ingress import signatures
from ingress.delivery import Delivery, Garbled, Told
from pipeline.contract import explain
from pipeline.errors import TooManyEvents, Unreadable
from pipeline.providers import TYPES

SIGNATURE_HEADER = "X-NexusProMail-Signature"
_TYPES = TYPES["nexuspromail"]


class _Data(msgspec.Struct):
    email: str | None = None


class _Body(msgspec.Struct):
    type: str
    data: _Data | None = None
    id: msgspec.Raw = msgspec.Raw(b"null")
    created_at: msgspec.Raw = msgspec.Raw(b"null")


class _Other(msgspec.Struct):
    """Of an event whose type no table knows: what it tells may have any shape."""

    type: str
    id: msgspec.Raw = msgspec.Raw(b"null")
    created_at: msgspec.Raw = msgspec.Raw(b"null")


_decoder = msgspec.json.Decoder(_Body)
_other = msgspec.json.Decoder(_Other)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str).decode


def verify(delivery: Delivery, secrets: Sequence[bytes], now: float) -> None:
    """Return only if NexusProMail signed this body. Raises BadSignature."""
    signatures.hmac_sha256_hex(delivery.body, signature=delivery.headers.get(SIGNATURE_HEADER), secrets=secrets)


def read(delivery: Delivery) -> list[Told | Garbled]:
    """The events of a delivery, in its order; none for an empty array.

    Raises Unreadable naming the field and the reason if none of its events can be read, TooManyEvents.
    """
    # Some programs write a byte order mark at the start of a text; JSON does not know it.
    body = delivery.body.removeprefix(BOM_UTF8)
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        return [_told(body)]
    try:
        items = _items.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(explain(error)) from None
    if len(items) > delivery.most_events:
        raise TooManyEvents(f"an array of {len(items)} events, and one delivery may have {delivery.most_events}")
    told = [_told_or_garbled(bytes(item)) for item in items]
    # An array of thousands of zeros is one dead letter, and not thousands.
    if told and isinstance(told[0], Garbled) and all(isinstance(each, Garbled) for each in told):
        raise Unreadable(f"{told[0].error} (the first of {len(told)} events, of which none can be read)")
    return told


def _told_or_garbled(raw: bytes) -> Told | Garbled:
    try:
        return _told(raw)
    except Unreadable as error:
        return Garbled(error, raw)


def _told(raw: bytes) -> Told:
    recipient: str | None = None
    body: _Body | _Other
    try:
        body = _known_or_other(raw)
        identity = _id(bytes(body.id))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(explain(error)) from None
    if isinstance(body, _Body) and body.data is not None:
        recipient = body.data.email
    occurred_at = _millis(bytes(body.created_at))
    return Told(type=body.type, id=identity, recipient=recipient, occurred_at=occurred_at, raw=raw)


def _known_or_other(raw: bytes) -> _Body | _Other:
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError:
        # What we do not know may look as it likes: it is kept and counted, like a `ping` that tells of nobody.
        other = _other.decode(raw)
        if other.type in _TYPES:
            raise
        return other


def _id(given: bytes) -> str | None:
    """An id is text, whatever JSON wrote it as: a number is its digits."""
    if given == b"null":
        return None
    return _text(given) if given[:1] == b'"' else given.decode()


def _millis(given: bytes) -> int | None:
    """A time as RFC 3339 text or seconds since the epoch, in ms. An unreadable one is unknown: it must not cost us
    the bounce that it is the time of."""
    try:
        if given[:1] == b'"':
            moment = datetime.fromisoformat(_text(given))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        else:
            seconds = float(given)  # thousands of digits are infinite
        millis = int(seconds * 1000)
    except (ValueError, OverflowError, msgspec.MsgspecError):
        return None
    return millis if 0 <= millis < 2**63 else None
