"""What an operator says about an address, as an event like any provider's.

Pure. Who said it and why stand in the event's raw JSON. The command writes such events, the processor reads them;
nobody else speaks for an operator.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pipeline import contract
from pipeline.contract import Event, EventType

#: The provider of these events. No webhook may use this name.
PROVIDER = "operator"
#: Longest texts that are kept, in characters. They are part of the list's every answer about the address.
LONGEST_WHO = 200
LONGEST_BECAUSE = 1000


class Said(msgspec.Struct, frozen=True, gc=False):
    """Who said it, and why."""

    who: str = ""
    because: str = ""


_decoder = msgspec.json.Decoder(Said)
_encoder = msgspec.json.Encoder()


def said(event: Event) -> Said:
    """Who and why, cut to the longest that is kept. Total: a raw that does not tell gives empty texts, because the
    word counts all the same."""
    try:
        found = _decoder.decode(event.raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Said()
    return Said(found.who[:LONGEST_WHO], found.because[:LONGEST_BECAUSE])


def event(
    email: str,
    kind: EventType,
    said: Said,
    *,
    id: str,  # noqa: A002 - the field's name
    id_basis: Literal["id", "fingerprint"],
    now: int,
    at: int | None = None,
) -> Event:
    """The event to write; email is normalised, now and at are in ms. Without `at` it happens now."""
    return Event(
        provider=PROVIDER,
        type=kind,
        provider_type=kind.value,
        id=id,
        id_basis=id_basis,
        email=email,
        email_given=email,
        occurred_at=at,
        received_at=now,
        raw=msgspec.Raw(_encoder.encode(said)),
    )


def headers(event: Event, trace: bytes) -> list[tuple[str, bytes]]:
    """The record's headers; trace is 24 random bytes."""
    return contract.headers(event, contract.traceparent(trace))
