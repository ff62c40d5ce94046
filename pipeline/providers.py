"""Which of a provider's words means what, for every provider: a table, corrected here and nowhere else.

Pure data. The ingress writes the type on the record; the processor derives it again from the provider's own word, so
that a corrected table also counts for what is on the log already. See docs/decisions/0007.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def type_of(event: Event, types: Types) -> EventType:
    """What the event means by this table; what is stored where the table does not have its word."""
    return types.get(event.provider, _NO_WORDS).get(event.provider_type, event.type)
