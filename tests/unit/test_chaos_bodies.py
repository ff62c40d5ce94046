"""What the senders of `make chaos` write is what providers write: in all its variety, and readable."""

from __future__ import annotations

import random
from itertools import pairwise

from ingress import accept
from ingress.delivery import Delivery, Told
from ingress.providers import PROVIDERS
from pipeline.contract import Event
from tests.chaos.bodies import Writer
from tests.chaos.checker import Sent
from tests.spellings import DOMAIN

PROVIDER = PROVIDERS["nexuspromail"]
ANN, BOB = "ann@chaos.example", f"bob@{DOMAIN}"


def read(body: bytes) -> Event:
    """The event that an ingress makes of a body."""
    (told,) = PROVIDER.read(Delivery("POST", {}, body, 0))
    assert isinstance(told, Told)
    return accept.event_of(PROVIDER, told, 0)


def written(count: int) -> list[tuple[str, Sent, bytes]]:
    chance = random.Random(1)
    writer = Writer(chance)
    return [
        writer.write(f"id-{number}", chance.choice((ANN, BOB, None)), 1_700_000_000 + number / 7)
        for number in range(count)
    ]


def test_what_was_sent_is_what_an_ingress_reads() -> None:
    for identity, sent, body in written(500):
        event = read(body)
        assert (event.id, event.email, event.provider_type) == (identity, sent.email, sent.kind), event.email_given
        assert (event.occurred_at, event.id_basis == "fingerprint") == (sent.at, sent.nameless)


def test_there_is_everything_that_makes_it_hard() -> None:
    several = written(500)
    assert len({read(body).email_given for *_, body in several}) > 50
    assert len({identity for identity, *_ in several}) < len(several)  # the same bytes without an id and a time
    assert {body.isascii() for *_, body in several} == {True, False}  # escaped, and as UTF-8
    choices = [sent for _, sent, _ in several if sent.email == ANN and sent.kind.endswith("subscribed") and sent.at]
    tied = [(one, other) for one, other in pairwise(choices) if one.at == other.at]
    assert {(one.kind, other.kind) for one, other in tied} >= {
        ("subscribed", "unsubscribed"),
        ("unsubscribed", "subscribed"),
    }
