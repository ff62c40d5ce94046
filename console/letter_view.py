"""Dead letters as people and programs see them. Values in, tables and text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from console import letters, moments
from console.letters import Group, Index, Letter, Refused
from pipeline import deadletter, masking
from pipeline.contract import Record
from pipeline.letters import Action, Place, Standing

#: Refusals that are told one by one; of the others their reasons are counted.
MOST_REFUSALS = 10


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in a list; times in ms, reason masked."""

    id: str
    state: Standing
    stage: str
    type: str
    provider: str
    error: str
    reason: str
    failures: int
    redrives: int
    first_failure: int
    last_failure: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a letter failed, and where the dead letter of it stands; at in ms."""

    at: int
    error: str
    message: str
    stage: str
    tries: int
    place: Place
    source: deadletter.Source | None


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """All of one letter. Texts are masked unless `revealed`; headers are the original record's."""

    letter: Row
    origin: str
    failures: list[Failure]
    actions: list[Action]
    headers: list[tuple[str, str]]
    key: str | None
    payload: str | None
    revealed: bool


def row(index: Index, letter: Letter) -> Row:
    """The letter as a list shows it."""
    return Row(
        id=letter.id,
        state=index.standing(letter),
        stage=letter.stage,
        type=letter.type,
        provider=letter.provider,
        error=letter.error,
        reason=letter.reason,
        failures=len(letter.places),
        redrives=index.redrives(letter),
        first_failure=letter.first_failure,
        last_failure=letter.last_failure,
    )


def whole(index: Index, letter: Letter, records: Sequence[tuple[int, Record]], *, reveal: bool) -> Whole:
    """All of a letter; records are (partition, record) of its failures, the latest one last, at least one."""
    _, latest = records[-1]
    payload, recipients = (None, []) if latest.value is None else masking.payload(latest.value)
    if reveal and latest.value is not None:
        payload = masking.shown(latest.value)

    def text(given: str) -> str:
        return given if reveal else masking.text(given, recipients)

    state = index.state(letter)
    actions = state.actions if state else []
    origin = deadletter.read(latest).origin
    return Whole(
        letter=msgspec.structs.replace(row(index, letter), reason=text(letter.reason)),
        origin=f"partition {origin[0]}, offset {origin[1].offset}" if origin else "a delivery that became no record",
        failures=[_failure(partition, record, text) for partition, record in records],
        actions=[msgspec.structs.replace(action, because=text(action.because)) for action in actions],
        headers=[(n, text(masking.shown(v))) for n, v in deadletter.original_headers(latest.headers)],
        key=None if latest.key is None else text(masking.shown(latest.key)),
        payload=payload,
        revealed=reveal,
    )


def _failure(partition: int, record: Record, text: Callable[[str], str]) -> Failure:
    read = deadletter.read(record)
    return Failure(
        at=read.last_failure,
        error=text(read.error),
        message=text(read.message),
        stage=read.stage,
        tries=read.tries,
        place=Place(partition, record.offset),
        source=read.source,
    )


def listed(rows: Sequence[Row], total: int) -> RenderableType:
    """A list for people; total is how many letters matched in all."""
    table = _table("id", "state", "last failed", "type", "provider", "error", "reason", "failed", "redriven")
    for each in rows:
        table.add_row(
            *_cells(each.id, each.state, moments.shown(each.last_failure), each.type, each.provider),
            *_cells(letters.short(each.error), each.reason, f"{each.failures}×", f"{each.redrives}×"),
        )
    more = f"{len(rows):,} of {total:,} letters, the longest waiting first; --limit shows more, --summary counts them"
    note = f"{total:,} letter{'' if total == 1 else 's'}" if len(rows) == total else more
    return Lines(table, Text(note, style="dim")) if rows else Text("no letter matches")


def counted(groups: Sequence[Group]) -> RenderableType:
    """Groups for people, with an example to look at."""
    if not groups:
        return Text("no letter matches")
    table = _table("letters", "error", "type", "provider", "first failed", "last failed", "for example")
    for each in groups:
        cells = (f"{each.count:,}", each.error, each.type, each.provider, moments.shown(each.first))
        table.add_row(*_cells(*cells, moments.shown(each.last), each.example))
    return table


def refusals(refused: Sequence[Refused]) -> RenderableType:
    """What was refused, and why: one by one if they are few, else by reason."""
    if len(refused) <= MOST_REFUSALS:
        return Text("\n".join(printable(f"refused {each.id}: {each.reason}") for each in refused))
    reasons = Counter(each.reason for each in refused).most_common(MOST_REFUSALS)
    return Text("\n".join(printable(f"refused {count:,}: {reason}") for reason, count in reasons))


def told(found: Whole) -> RenderableType:
    """All of a letter for people."""
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    letter = found.letter
    for name, value in (
        ("letter", f"{letter.id}, {letter.state}"),
        ("event", f"{letter.type} of {letter.provider}"),
        ("first stood at", found.origin),
        ("given up by", letter.stage),
        ("redriven", f"{letter.redrives}×"),
        *((name, value) for name, value in found.headers),
        ("key", "none" if found.key is None else found.key),
    ):
        facts.add_row(Text(name, style="dim"), *_cells(value))
    history = _table("when", "what", "why")
    for when, what, why in _history(found):
        history.add_row(*_cells(moments.shown(when), what, why))
    masked = "" if found.revealed else " (masked; --reveal shows it as it is)"
    payload = Text(printable(found.payload) if found.payload is not None else "none")
    return Lines(facts, Text(), history, Text(), Text(f"payload{masked}", style="dim"), payload)


def _history(found: Whole) -> list[tuple[int, str, str]]:
    """Failures and actions as they followed each other: an action comes after the failure it answers."""
    lines = []
    for failure in found.failures:
        where = f"{letters.short(failure.error)}, dead letter {failure.place.partition}-{failure.place.offset}"
        tries = f", {failure.tries} tries" if failure.tries > 1 else ""
        lines.append((failure.at, f"failed: {where}{tries}", failure.message))
        lines += [_line(action) for action in found.actions if action.answers == failure.place]
    known = {failure.place for failure in found.failures}
    return [_line(action) for action in found.actions if action.answers not in known] + lines


def _line(action: Action) -> tuple[int, str, str]:
    return action.at, f"{action.did} by {action.who}", action.because


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        # An id that is cut is of no use; everything else wraps.
        table.add_column(heading, header_style="dim", no_wrap=heading == "id", overflow="fold")
    return table


def printable(given: str) -> str:
    """Text without what would move a terminal's cursor or ring its bell."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in given)


def _cells(*values: str) -> list[Text]:
    return [Text(printable(value)) for value in values]
