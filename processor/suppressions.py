"""What an event adds to the facts about its address.

Pure. Joining is commutative, associative, idempotent and total: providers reorder and repeat, Kafka redelivers,
operators replay, and any order of the same events leaves the same facts. So nothing is ever taken back:
a reinstatement is one more fact, and what it outdates is decided when the causes are read.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pipeline import operators
from pipeline.contract import Event, EventType
from pipeline.suppression import Choice, Facts, Span, Word

#: Of two the one of greater rank counts.
Said = TypeVar("Said", Choice, Word)

#: The types that say something about mailing an address; all others pass through.
SPEAKING = frozenset(
    {
        EventType.HARD_BOUNCE,
        EventType.COMPLAINT,
        EventType.UNSUBSCRIBED,
        EventType.SUBSCRIBED,
        EventType.SUPPRESSED,
        EventType.REINSTATED,
    }
)
#: Those of them that can only speak against mailing it: to apply one once too often is the safe side.
SUPPRESSING = SPEAKING - {EventType.SUBSCRIBED, EventType.REINSTATED}


def facts_of(event: Event, appended: int) -> Facts:
    """What one event says by itself; nothing for a type that does not speak about suppression.

    Operators' types count only from an operator: a provider that could say them would overrule everybody.

    appended  when the log took it first, in ms
    """
    at = event.happened(appended)
    match event.type:
        case EventType.HARD_BOUNCE:
            return Facts(hard_bounce=Span(at, at))
        case EventType.COMPLAINT:
            return Facts(complaint=Span(at, at))
        case EventType.UNSUBSCRIBED:
            return Facts(choice=Choice(at, event.id, "unsubscribed"))
        case EventType.SUBSCRIBED:
            return Facts(choice=Choice(at, event.id, "subscribed"))
        case EventType.SUPPRESSED if event.provider == operators.PROVIDER:
            return Facts(word=_word(event, at, "suppressed"))
        case EventType.REINSTATED if event.provider == operators.PROVIDER:
            return Facts(word=_word(event, at, "reinstated"), reinstated=at)
        case _:
            return Facts()


def _word(event: Event, at: int, kind: Literal["suppressed", "reinstated"]) -> Word:
    said = operators.said(event)
    return Word(at, event.id, kind, said.who, said.because)


def join(one: Facts, other: Facts) -> Facts:
    """Everything that either knows."""
    return Facts(
        hard_bounce=_span(one.hard_bounce, other.hard_bounce),
        complaint=_span(one.complaint, other.complaint),
        choice=_latest(one.choice, other.choice),
        reinstated=one.reinstated
        if other.reinstated is None
        else max(other.reinstated, one.reinstated or other.reinstated),
        word=_latest(one.word, other.word),
    )


def before(facts: Facts, horizon: int) -> Facts:
    """What of these facts happened before that time, in ms."""

    def old(said: Said | None) -> Said | None:
        return said if said and said.at < horizon else None

    return Facts(
        hard_bounce=_span_before(facts.hard_bounce, horizon),
        complaint=_span_before(facts.complaint, horizon),
        choice=old(facts.choice),
        reinstated=facts.reinstated if facts.reinstated is not None and facts.reinstated < horizon else None,
        word=old(facts.word),
    )


def _span_before(span: Span | None, horizon: int) -> Span | None:
    if span is None or span.first >= horizon:
        return None
    return span if span.latest < horizon else Span(span.first, span.first)


def _span(one: Span | None, other: Span | None) -> Span | None:
    if one is None or other is None:
        return one or other
    return Span(min(one.first, other.first), max(one.latest, other.latest))


def _latest(one: Said | None, other: Said | None) -> Said | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda said: said.rank)
