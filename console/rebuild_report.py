"""What `postlog replay --rebuild` says. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table

from console.group import Member
from console.replay_report import named
from processor.difference import Counts


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: the log that was read is [first, end)."""

    partition: int
    first: int
    end: int
    counts: Counts


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What --json prints.

    done            whether the differences were written
    forget_expired  whether what only expired events tell is dropped
    """

    group: str
    done: bool
    forget_expired: bool
    total: Counts
    partitions: list[Row]

    @property
    def changes(self) -> bool:
        """Whether anything differs."""
        return bool(self.total.entries or self.total.markers or self.total.former)


def of(group: str, rows: Sequence[Row], *, forget_expired: bool) -> Report:
    """The report of these partitions, not done yet."""
    total = sum((row.counts for row in rows), Counts())
    return Report(group=group, done=False, forget_expired=forget_expired, total=total, partitions=list(rows))


def in_use(group: str, members: Sequence[Member]) -> str:
    """Why the state cannot be replaced now, and what to do."""
    return (
        f"{group} is in use by {named(members)}. The log can be read while processors work, but the state is "
        "replaced only while none does: give --wait SECONDS, and stop all of them (SIGTERM; docker compose stop "
        "processor) when you are told that it has caught up. --dry-run shows what differs without stopping anything"
    )


def stop_now(group: str, members: Sequence[Member], wait: float) -> str:
    """That it has caught up, and what is being waited for."""
    return (
        f"caught up: stop all processors now. Waiting {wait:.0f} s at most for {named(members)} to leave {group}, "
        "and following meanwhile"
    )


def render(report: Report) -> RenderableType:
    """What differs, for people."""
    table = Table(title=f"{report.group}: the state as the log tells it, and as it is", title_justify="left")
    for heading in ("partition", "log from", "to", "entries differ", "released", "suppressed", "markers differ"):
        table.add_column(heading, justify="right")
    for row in report.partitions:
        counts = row.counts
        cells = (
            row.partition,
            row.first,
            row.end,
            counts.entries,
            counts.released,
            counts.suppressed,
            counts.markers,
        )
        table.add_row(*map(str, cells))
    lines = [_sum(report.total), *_former(report.total)]
    if any(row.first for row in report.partitions):
        lines.append(
            "The log does not reach back to its beginning: what only expired events tell is "
            + ("dropped" if report.forget_expired else "kept (--forget-expired would drop it)")
        )
    return Group(table, *lines)


def question(report: Report) -> str:
    """What is to be confirmed."""
    return f"{_sum(report.total)}. Write that?"


def ending(report: Report) -> str:
    """What was done and what to do now."""
    if not report.changes:
        return "nothing to do: the state is what the log tells"
    if not report.done:
        return "nothing was changed"
    return (
        "done: start the processors again; lookups follow by themselves. Handlers were not told: "
        "docs/operations.md says how to tell them"
        + ("; only of what stood under former keys they will be" if report.total.former else "")
    )


def _former(total: Counts) -> list[str]:
    """What is said of keys that are not as an address is written now."""
    lines = []
    if total.former:
        lines.append(
            f"{total.former} entries have a key that an earlier release gave the address: what they say goes to the "
            "address as it is written now, and they go"
        )
    if total.nobodys:
        lines.append(
            f"{total.nobodys} entries have a key that is no address any more, and stay: nobody can be mailed under "
            "it. `postlog suppressions list --limit 0` shows them; say whom they mean with `suppressions add`"
        )
    return lines


def _sum(counts: Counts) -> str:
    unreadable = f", {counts.unreadable} could not be read" if counts.unreadable else ""
    return (
        f"{counts.entries} entries of the list differ ({counts.released} addresses can be mailed again, "
        f"{counts.suppressed} cannot any more{unreadable}), and {counts.markers} markers of duplicates"
    )
