"""What `postlog up` shows: a table that stays in place on a terminal, lines elsewhere. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.metrics import Alerts, Beyond, Outage, Rates, Totals, UnknownType
from console.stack import Change, Child, State
from pipeline import masking

_COLOURS: dict[State, str] = {
    "starting": "yellow",
    "ready": "green",
    "not ready": "yellow",
    "waiting": "red",
    "stopped": "dim",
}
#: Reasons may quote whole log lines; a terminal's width is enough to recognise one.
_LONGEST_DETAIL = 100


def screen(children: Iterable[Child], kafka: str, totals: Totals | None, rates: Rates | None) -> RenderableType:
    """The services and what goes through them; totals are None until the first answer."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("service", "address", "pid", "state", "restarts"):
        table.add_column(heading, header_style="dim", justify="right" if heading in ("pid", "restarts") else "left")
    table.add_row("kafka", kafka, "", "", "")
    for child in children:
        state = Text(child.state, style=_COLOURS[child.state])
        if child.detail:
            state.append(f" ({masking.cut(child.detail, _LONGEST_DETAIL)})", style="dim")
        table.add_row(child.service.name, child.service.url, str(child.pid or ""), state, str(child.restarts or ""))
    return Group(table, Text(), Text(numbers(totals, rates) if totals else "no numbers yet"), Text())


def numbers(totals: Totals, rates: Rates | None) -> str:
    """What went through, in one line."""
    return " · ".join(
        (
            f"{totals.events_in:,} events in{_rate(rates.events_in if rates else None)}",
            f"{totals.processed:,} processed{_rate(rates.processed if rates else None)}",
            f"{totals.duplicates:,} duplicates",
            f"{totals.suppression_writes:,} suppressions written",
            f"{totals.dead_letters:,} dead letters",
            *([f"{totals.owed:,} calls owed"] if totals.owed else []),
            "lag unknown" if totals.lag is None else f"lag {totals.lag:,}",
        )
    )


def alerts(found: Alerts) -> str:
    """How the alerter is, in one line."""
    return (
        f"alerter: heartbeat {found.heartbeat_age:g} s ago · {found.unsent} alerts on their way · "
        f"{found.untold_letters} dead letters nobody was told of yet"
    )


def outage(found: Outage) -> Text:
    """A handler that is down, in one line."""
    since = datetime.fromtimestamp(found.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Text(f"handler {found.handler}: circuit open since {since}; its calls wait", style="red")


def unknown(found: Sequence[UnknownType]) -> str:
    """The types that nobody knows, in one line."""
    told = ", ".join(f"{each.provider} {each.type} ({each.count:,})" for each in found)
    return f"types that no release here knows, kept and counted: {told}"


def former(count: int) -> str:
    """How many entries of the list nobody finds, and what to do, in one line."""
    return (
        f"{count:,} entries of the list have a key of an earlier release, under which nobody looks: "
        "join them with postlog replay --rebuild"
    )


def beyond(found: Beyond) -> Text:
    """Records that nobody reads, in one line."""
    where = f"on partitions of {found.topic} that topics.yaml does not know"
    return Text(f"{found.records:,} records {where}: nobody reads them, see docs/operations.md", style="red")


def _rate(value: float | None) -> str:
    return "" if value is None else f" ({value:,.0f}/s)"


def line(change: Change) -> str:
    """A state change in one line."""
    return f"{change.service}: {change.state}{f' ({masking.text(change.detail)})' if change.detail else ''}"
