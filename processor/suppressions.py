"""What an event adds to the facts about its address.

Pure. Joining is commutative, associative, idempotent and total: providers reorder and repeat, Kafka redelivers,
operators replay, and any order of the same events leaves the same facts. So nothing is ever taken back:
a reinstatement is one more fact, and what it outdates is decided when the causes are read.
"""

from __future__ import annotations

from pipeline.contract import Event, EventType
from pipeline.suppression import Choice, Facts, Span

#: The types that say something about mailing an address; all others pass through.
SPEAKING = frozenset(
    {
        EventType.HARD_BOUNCE,
        EventType.COMPLAINT,
        EventType.UNSUBSCRIBED,
        EventType.SUBSCRIBED,
        EventType.REINSTATED,
    }
)


def facts_of(event: Event) -> Facts:
    """What one event says by itself; nothing for a type that does not speak about suppression."""
    at = event.at
    match event.type:
        case EventType.HARD_BOUNCE:
            return Facts(hard_bounce=Span(at, at))
        case EventType.COMPLAINT:
            return Facts(complaint=Span(at, at))
        case EventType.UNSUBSCRIBED:
            return Facts(choice=Choice(at, event.id, "unsubscribed"))
        case EventType.SUBSCRIBED:
            return Facts(choice=Choice(at, event.id, "subscribed"))
        case EventType.REINSTATED:
            return Facts(reinstated=at)
        case _:
            return Facts()


def join(one: Facts, other: Facts) -> Facts:
    """Everything that either knows."""
    return Facts(
        hard_bounce=_span(one.hard_bounce, other.hard_bounce),
        complaint=_span(one.complaint, other.complaint),
        choice=_latest(one.choice, other.choice),
        reinstated=one.reinstated
        if other.reinstated is None
        else max(other.reinstated, one.reinstated or other.reinstated),
    )


def _span(one: Span | None, other: Span | None) -> Span | None:
    if one is None or other is None:
        return one or other
    return Span(min(one.first, other.first), max(one.latest, other.latest))


def _latest(one: Choice | None, other: Choice | None) -> Choice | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
