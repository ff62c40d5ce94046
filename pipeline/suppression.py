"""The public suppression list: what a record of the suppressions topic says about one address.

Pure. The processor joins facts and writes; lookup and anybody else who reads the topic needs only
`suppressed` and `causes`, which always follow from `facts` (see `Suppression.of`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pipeline.contract import explain
from pipeline.errors import Undecodable

Cause = Literal["hard_bounce", "complaint", "unsubscribed", "operator"]


class Span(msgspec.Struct, frozen=True, gc=False):
    """First and latest time something happened, ms since the epoch."""

    first: int
    latest: int


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The person's own latest word. Of two the one of greater rank counts, whoever came first."""

    at: int
    id: str
    type: Literal["subscribed", "unsubscribed"]

    @property
    def rank(self) -> tuple[int, bool, str]:
        """By time; at one time what suppresses goes before. The id only chooses between two that say the same."""
        return self.at, self.type == "unsubscribed", self.id


class Word(msgspec.Struct, frozen=True, gc=False):
    """An operator's latest word, with who said it and why. Of two the one of greater rank counts."""

    at: int
    id: str
    type: Literal["suppressed", "reinstated"]
    who: str
    because: str

    @property
    def rank(self) -> tuple[int, bool, str, str, str]:
        """By time; at one time what suppresses goes before, as with a Choice."""
        return self.at, self.type == "suppressed", self.id, self.who, self.because


class Facts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Everything known about mailing an address. Nothing is ever taken back here, so joining order cannot matter.

    reinstated  when an operator said so last, in ms: what is older no longer counts, but stays known. Apart from
                `word`, since what it outdated stays outdated whatever an operator says later
    """

    hard_bounce: Span | None = None
    complaint: Span | None = None
    choice: Choice | None = None
    reinstated: int | None = None
    word: Word | None = None

    def causes(self) -> dict[Cause, Span]:
        """What stands against mailing the address now; at the very moment of a reinstatement the cause still does."""
        since = -1 if self.reinstated is None else self.reinstated
        standing: dict[Cause, Span] = {}
        if self.hard_bounce and self.hard_bounce.latest >= since:
            standing["hard_bounce"] = self.hard_bounce
        if self.complaint and self.complaint.latest >= since:
            standing["complaint"] = self.complaint
        if self.choice and self.choice.type == "unsubscribed" and self.choice.at >= since:
            standing["unsubscribed"] = Span(self.choice.at, self.choice.at)
        if self.word and self.word.type == "suppressed":
            standing["operator"] = Span(self.word.at, self.word.at)
        return standing

    def updated_at(self) -> int:
        """The time of the newest fact, in ms; follows from the facts, so a replay writes the same bytes."""
        return max(
            self.hard_bounce.latest if self.hard_bounce else 0,
            self.complaint.latest if self.complaint else 0,
            self.choice.at if self.choice else 0,
            self.reinstated or 0,
            self.word.at if self.word else 0,
        )


class Suppression(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Value of a record of the suppressions topic; its key is the address. A tombstone says nothing is known."""

    v: Literal[1] = 1
    email: str
    suppressed: bool
    causes: dict[Cause, Span]
    updated_at: int
    facts: Facts

    @classmethod
    def of(cls, email: str, facts: Facts) -> Suppression:
        """The list's entry that follows from the facts."""
        causes = facts.causes()
        return cls(email=email, suppressed=bool(causes), causes=causes, updated_at=facts.updated_at(), facts=facts)


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Suppression)


def encode(suppression: Suppression) -> bytes:
    """The record's value: JSON; the same suppression is always the same bytes."""
    return _encoder.encode(suppression)


def decode(value: bytes) -> Suppression:
    """The suppression in a record's value. Raises Undecodable naming the field and the reason."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(explain(error)) from None
