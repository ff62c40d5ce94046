"""What lookup answers about an address, and how it is told to people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from pipeline.suppression import Cause


class Times(msgspec.Struct, frozen=True):
    """First and latest time of a cause, RFC 3339."""

    first: str
    latest: str


class Spoken(msgspec.Struct, frozen=True):
    """An operator's latest word; at is RFC 3339."""

    type: Literal["suppressed", "reinstated"]
    who: str
    because: str
    at: str


class Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of lookup's answer that is shown. A record nobody can read has an error, and suppressed is None."""

    email: str
    suppressed: bool | None
    causes: Mapping[Cause, Times]
    updated_at: str | None = None
    operator: Spoken | None = None
    error: str = ""


def describe(known: Known) -> str:
    """The answer for people."""
    if known.suppressed:
        causes = [_cause(known, cause, times) for cause, times in known.causes.items()]
        return "\n".join([f"{known.email}: suppressed, do not mail", *causes])
    if known.updated_at is None:
        return f"{known.email}: not suppressed, nothing is known against it"
    news = f"{known.email}: not suppressed any more, latest news of {known.updated_at}"
    return f"{news}\n  reinstated  {_word(known.operator)}" if known.operator else news


def _cause(known: Known, cause: Cause, times: Times) -> str:
    if cause == "operator" and known.operator:
        return f"  operator  {_word(known.operator)}"
    name = cause.replace("_", " ")
    if times.first == times.latest:
        return f"  {name}  at {times.first}"
    return f"  {name}  first {times.first}, latest {times.latest}"


def _word(word: Spoken) -> str:
    return f"at {word.at} by {word.who or 'somebody'}: {word.because or 'no reason given'}"
