"""Events and records for tests, with sane defaults for what a test does not care about."""

from dataclasses import dataclass, field

import msgspec

from pipeline import contract
from pipeline.contract import Event, EventType, Headers

NOON = 1_700_000_000_000
#: What only operators say.
OPERATORS = {EventType.SUPPRESSED, EventType.REINSTATED}


def event(
    email: str | None = "ann@example.com",
    kind: EventType = EventType.HARD_BOUNCE,
    *,
    id: str = "evt_1",  # noqa: A002 - the field's name
    occurred_at: int | None = None,
    received_at: int = NOON,
    provider: str | None = None,
    raw: bytes = b"{}",
) -> Event:
    """provider None: the one that may say this."""
    return Event(
        provider=provider or ("operator" if kind in OPERATORS else "nexuspromail"),
        type=kind,
        provider_type=kind.value,
        id=id,
        id_basis="id",
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
