"""Events and records for tests, with sane defaults for what a test does not care about."""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pipeline import contract, deadletter
from pipeline.contract import Event, EventType, Headers
from pipeline.deadletter import Source
from pipeline.errors import NoRecipient, PostlogError

NOON = 1_700_000_000_000
#: What only operators say.
OPERATORS = {EventType.SUPPRESSED, EventType.REINSTATED}
#: Where a record stood that died.
SOURCE = Source("email-events", 3, 17, NOON - 1000, "postlog-processor")


def event(
    email: str | None = "ann@example.com",
    kind: EventType = EventType.HARD_BOUNCE,
    *,
    id: str = "evt_1",  # noqa: A002 - the field's name
    occurred_at: int | None = None,
    received_at: int = NOON,
    provider: str | None = None,
    raw: bytes = b"{}",
    word: str | None = None,
    id_basis: Literal["id", "fingerprint"] = "id",
) -> Event:
    """provider None: the one that may say this."""
    return Event(
        provider=provider or ("operator" if kind in OPERATORS else "nexuspromail"),
        type=kind,
        provider_type=kind.value if word is None else word,
        id=id,
        id_basis=id_basis,
        email=email,
        email_given=email,
        occurred_at=occurred_at,
        received_at=received_at,
        raw=msgspec.Raw(raw),
    )


@dataclass
class FakeRecord:
    offset: int
    value: bytes | None
    key: bytes | None = b"ann@example.com"
    timestamp: int = NOON
    headers: Headers = field(default_factory=list)


def record(offset: int, made: Event, *, timestamp: int = NOON, headers: Headers = ()) -> FakeRecord:
    return FakeRecord(offset, contract.encode(made), contract.key(made), timestamp, headers)


def letter(
    offset: int,
    *,
    value: bytes | None = b"{}",
    key: bytes | None = b"ann@example.com",
    error: PostlogError | None = None,
    at: int = NOON,
    source: Source | None = SOURCE,
    headers: Headers = (),
) -> FakeRecord:
    """A record of the dead-letter topic; source None makes it a delivery that the ingress could not read."""
    stage: Literal["ingress", "processor"] = "ingress" if source is None else "processor"
    added = deadletter.headers(error or NoRecipient("email: none"), stage=stage, now=at, source=source)
    return FakeRecord(offset, value, key, at, [*headers, *added])
