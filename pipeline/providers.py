"""Which of a provider's words means what, for every provider: a table, corrected here and nowhere else.

Pure data. The ingress writes the type on the record; the processor derives it again from the provider's own word, so
that a corrected table also counts for what is on the log already. See docs/decisions/0007.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pipeline.contract import Event, EventType

#: A provider's word to our type, by provider.
Types = Mapping[str, Mapping[str, EventType]]

#: A word that is missing becomes UNKNOWN: it is counted and kept, and counts once it is added here.
TYPES: Types = {
    "nexuspromail": {
        "delivered": EventType.DELIVERED,
        "deferred": EventType.DEFERRED,
        "opened": EventType.OPENED,
        "clicked": EventType.CLICKED,
        "bounced.soft": EventType.SOFT_BOUNCE,
        "bounced.hard": EventType.HARD_BOUNCE,
        "complained": EventType.COMPLAINT,
        "unsubscribed": EventType.UNSUBSCRIBED,
        "subscribed": EventType.SUBSCRIBED,
    },
}

_NO_WORDS: Mapping[str, EventType] = {}


def as_it_means_now(event: Event, types: Types = TYPES) -> Event:
    """The event with the type that its word has by this table; as it is where the table does not have the word."""
    means = types.get(event.provider, _NO_WORDS).get(event.provider_type, event.type)
    return event if means is event.type else msgspec.structs.replace(event, type=means)
