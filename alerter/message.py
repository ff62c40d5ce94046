"""The words of an alert: a title and a body that say what died, why, where to look and what to do.

Pure. Everything that came from a letter was cut down and masked by summary.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from alerter.incidents import News
from alerter.summary import Alert, GroupKey, Place, Summary, shown
from alerter.words import words

#: Groups that a message spells out; of the others it gives the numbers. Channels take a few thousand characters.
MOST_SHOWN = 10

_NEXT = (
    "What to do: `postlog status` shows what runs and what waits. `postlog dlq list --summary` shows the dead "
    "letters, and `postlog dlq redrive` sends them round again when the cause is mended."
)
#: 9999-12-31T23:59:59Z, in ms: a header can hold any number, a date cannot.
_LATEST = 253_402_300_799_000


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel sends: plain text, the title in one line.

    over   whether all of it is over
    about  the name of the one incident or group it is about, empty if it may be about several
    """

    title: str
    body: str
    critical: bool
    over: bool = False
    about: str = ""


def message(alert: Alert) -> Message:
    """The alert in words, what is critical first, then the largest groups."""
    ordered = sorted(alert.summaries, key=lambda summary: (not summary.key.critical, -summary.count))
    parts = [_story(news) for news in alert.news[:MOST_SHOWN]]
    parts += [_paragraph(summary) for summary in ordered[:MOST_SHOWN]]
    if rest := ordered[MOST_SHOWN:]:
        parts.append(f"And {_letters(_total(rest))} in {len(rest)} more groups.")
    if ordered:
        parts.append(_NEXT)
    return Message(_headline(alert.news, ordered), "\n\n".join(parts), alert.critical, alert.over)


def messages(alert: Alert) -> list[Message]:
    """The alert in words, one message for each incident and group: for services that keep each until it is over."""
    return [
        *(replace(message(Alert((), (news,))), about=news.about) for news in alert.news),
        *(replace(message(Alert((found,))), about=found.key.name) for found in alert.summaries),
    ]


def _headline(news: Sequence[News], summaries: list[Summary]) -> str:
    titles = [_news_title(each) for each in news[:2]] + ([_title(summaries)] if summaries else [])
    more = f" and {len(news) - 2} more incidents" if len(news) > 2 else ""
    return f"postlog: {'; '.join(titles)}{more}"


def _news_title(news: News) -> str:
    said = words(news.incident)
    return shown((said.over if news.over else said.begun).format(news.incident.subject), 200)


def _story(news: News) -> str:
    """What happened, since when and why, and what to do."""
    incident = news.incident
    lines = [
        _news_title(news),
        f"{'it began' if news.over else 'since'}: {_utc(incident.since)}",
        f"reason: {shown(incident.reason, 300) or 'none given'}",
        "There is nothing to do." if news.over else words(incident).advice or _NEXT,
    ]
    return "\n".join(lines)


def _title(summaries: list[Summary]) -> str:
    if len(summaries) > 1:
        return f"{_letters(_total(summaries))} in {len(summaries)} groups"
    (summary,) = summaries
    return f"{_letters(summary.count, '' if summary.since is None else 'more ')}, {_group(summary.key)}"


def _paragraph(summary: Summary) -> str:
    example = summary.example
    counted = _letters(summary.count)
    if summary.since is not None:
        counted = f"{_letters(summary.count, 'more ')} since {_utc(summary.since * 1000)}"
    lines = [
        f"{counted}, {_group(summary.key)}",
        f"failed: {_utc(summary.first)} to {_utc(summary.last)}",
        f"reason: {example.message or 'none given'}",
        f"for example: event {example.id or 'without an id'}, given up by: {example.stage}",
        f"its record: {_where(example.original) if example.original else 'a delivery that never became one'}",
        f"its dead letter: {_where(example.place)}; postlog dlq show {example.letter}",
    ]
    return "\n".join(lines)


def _group(key: GroupKey) -> str:
    return f"{key.type}, {key.provider}: {key.error.rpartition('.')[2]}"


def _total(summaries: list[Summary]) -> int:
    return sum(summary.count for summary in summaries)


def _letters(count: int, more: str = "") -> str:
    return f"{count} {more}dead letter{'' if count == 1 else 's'}"


def _where(place: Place) -> str:
    return f"{place.topic}, partition {place.partition}, offset {place.offset}"


def _utc(ms: float) -> str:
    moment = datetime.fromtimestamp(min(max(ms, 0), _LATEST) / 1000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
