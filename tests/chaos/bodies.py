"""What providers really write: an address in any spelling, events without an id or a time, two words at one time.

Pure: the same chance makes the same, but for the time.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field

from tests.chaos.checker import Sent
from tests.spellings import DOMAIN, DOMAINS, WRAPPERS

KINDS = ("bounced.hard", "complained", "unsubscribed", "subscribed", "opened", "delivered")
#: What the other word is of a person who changes their mind.
OTHER = {"unsubscribed": "subscribed", "subscribed": "unsubscribed"}
#: Shares of the events that have no id, that have no time, and that take a choice back at the time it was made; of
#: the addresses that are not written in their one form.
NAMELESS, TIMELESS, TIED, SPELLED = 0.2, 0.25, 0.1, 0.5
#: How many bytes are added to a body that is to be large.
LARGE_BYTES = 900_000


@dataclass
class Writer:
    """Writes the events of some addresses, in the order in which they are posted."""

    chance: random.Random
    _choices: dict[str, tuple[str, float]] = field(default_factory=dict)

    def write(self, identity: str, email: str | None, now: float, *, large: bool = False) -> tuple[str, Sent, bytes]:
        """An event: what identifies it, what it says, and its body.

        identity  its id, if it gets one
        now       in seconds since the epoch
        """
        kind, at = self._said(email, now)
        body: dict[str, object] = {"type": kind, "data": {"email": email and spelled(email, self.chance)}}
        if nameless := self.chance.random() < NAMELESS:
            body["id"] = self.chance.choice((None, ""))
        else:
            body["id"] = identity
        if at is not None:
            body["created_at"] = at
        if large:
            body["note"] = "x" * LARGE_BYTES
        raw = json.dumps(body, ensure_ascii=self.chance.random() < 0.5).encode()
        sent = Sent(email, kind, at=None if at is None else int(at * 1000), nameless=nameless)
        return fingerprint(raw) if nameless else identity, sent, raw

    def _said(self, email: str | None, now: float) -> tuple[str, float | None]:
        """What the next event says, and when that happened; None if it does not tell."""
        if email in self._choices and self.chance.random() < TIED:
            word, at = self._choices[email]
            return OTHER[word], at
        kind = self.chance.choice(KINDS)
        if self.chance.random() < TIMELESS:
            return kind, None
        if email is not None and kind in OTHER:
            self._choices[email] = (kind, now)
        return kind, now


def spelled(email: str, chance: random.Random) -> str:
    """The address, in one of its spellings."""
    if chance.random() >= SPELLED:
        return email
    local, _, domain = email.rpartition("@")
    domain = chance.choice(DOMAINS if domain == DOMAIN else (domain, domain.upper(), f"{domain}.", f"{domain}｡"))
    at = chance.choice(("@", "＠"))
    return chance.choice(WRAPPERS).format(f"{chance.choice((local, local.upper()))}{at}{domain}")


def fingerprint(raw: bytes) -> str:
    """What identifies an event without an id: provider and bytes, each with its length."""
    provider = b"nexuspromail"
    return f"sha256:{hashlib.sha256(b'%d:%b%d:%b' % (len(provider), provider, len(raw), raw)).hexdigest()}"
