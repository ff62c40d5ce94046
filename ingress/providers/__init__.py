"""Every provider that may post to us, a row each.

A row says where it posts, how to verify, how to read, which of its words mean what, and how to answer it. What one
needs and another does not (batches, form bodies, handshakes, its own status codes) is a field or a function of the
row; the ingress around it does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ingress.delivery import Delivery, Garbled, Reply, Told
from ingress.providers import nexuspromail
from pipeline.contract import EventType
from pipeline.providers import TYPES

#: (delivery, secrets, now in seconds since the epoch): returns, or raises BadSignature or StaleDelivery.
Verify = Callable[[Delivery, Sequence[bytes], float], None]
#: What the delivery tells, an item per event, none for one that has no events; raises Unreadable if nothing of it can
#: be understood, TooManyEvents if there are more of them than the delivery may have.
Read = Callable[[Delivery], Sequence[Told | Garbled]]
#: The answer to a request that only proves who we are, or None if this is a delivery. Called after verify.
Handshake = Callable[[Delivery], Reply | None]


@dataclass(frozen=True, slots=True)
class Answers:
    """Status codes by outcome: some providers drop an event on codes that make others try again."""

    accepted: int = 200
    not_authentic: int = 401
    try_again: int = 503
    too_large: int = 413
    too_slow: int = 408


@dataclass(frozen=True, slots=True)
class Provider:
    """A row.

    path      where it posts
    methods   HTTP methods it uses; handshakes may need GET
    secrets   the setting that holds its secrets; the one that names a file of them is called the same and `_file`
    types     its words for what happened; one that is missing becomes UNKNOWN, is counted and kept
    trust_id  False if it changes an event's id when it tries again: then the event's content identifies it
    """

    name: str
    path: str
    secrets: str
    verify: Verify
    read: Read
    types: Mapping[str, EventType]
    handshake: Handshake | None = None
    methods: tuple[str, ...] = ("POST",)
    answers: Answers = Answers()
    trust_id: bool = True


PROVIDERS: Mapping[str, Provider] = {
    "nexuspromail": Provider(
        name="nexuspromail",
        path="/webhooks/email",
        secrets="webhook_secret",
        verify=nexuspromail.verify,  # it signs no time, so a delivery cannot be too old
        read=nexuspromail.read,
        types=TYPES["nexuspromail"],
    ),
}
