"""A time as a person types it, and as one is shown. Pure: the clock is an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: 9999-12-31T23:59:59Z, in ms: a header can hold any number, a date cannot.
_LATEST = 253_402_300_799_000


def read(given: str, now: int) -> int:
    """Milliseconds since the epoch of `2h` (ago) or RFC 3339; one without a zone is UTC. Raises ValueError."""
    if ago := _AGO.fullmatch(given.strip()):
        return now - int(ago[1]) * _UNITS[ago[2]]
    moment = datetime.fromisoformat(given.strip())
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def shown(ms: int) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(min(max(ms, 0), _LATEST) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
