"""What `postlog state` says. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table

from processor.lacking import Counts

#: Of a copy that cannot be read.
UNKNOWN = Counts()


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a lane.

    reason   why it cannot go on from the log by itself; empty if it can
    lacking  what it knows and the log does not
    """

    partition: int
    path: str
    reason: str
    lacking: Counts


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What --json prints.

    done     whether the copies were written back, or discarded
    looked   how many copies are here
    copies   those that cannot go on from the log by themselves
    """

    group: str
    discard: bool
    done: bool
    looked: int
    total: Counts
    copies: list[Copy]


def of(group: str, copies: Sequence[Copy], *, discard: bool) -> Report:
    """The report of these copies, not done yet."""
    suspect = [copy for copy in copies if copy.reason]
    total = sum((copy.lacking for copy in suspect), Counts())
    return Report(group=group, discard=discard, done=False, looked=len(copies), total=total, copies=suspect)


def render(report: Report) -> RenderableType:
    """What the log lacks, for people."""
    if not report.copies:
        return f"{report.looked} copies of {report.group}: the log lacks nothing that they know"
    table = Table(title=f"{report.group}: what copies here know and the log does not", title_justify="left")
    for heading in ("partition", "entries", "suppressed", "markers", "calls"):
        table.add_column(heading, justify="right")
    table.add_column("why", overflow="fold")
    for copy in report.copies:
        counts = copy.lacking
        cells = (copy.partition, counts.entries, counts.suppressed, counts.markers, counts.calls, copy.reason)
        table.add_row(*map(str, cells))
    return Group(table, _sum(report.total))


def question(report: Report) -> str:
    """What is to be confirmed."""
    if report.discard:
        return f"{_sum(report.total)}. Remove these copies, and with them all of that?"
    return f"{_sum(report.total)}. Write that?"


def ending(report: Report) -> str:
    """What was done and what to do now."""
    if not report.looked:
        return "no copy is here: name the STATE_DIR of the processor that stopped, with --state-dir"
    if not report.copies:
        return "nothing to do"
    if not report.done:
        return "nothing was changed"
    if report.discard:
        return "done: type postlog replay --rebuild, and then start the processors again"
    return "done: start the processors again; lookups answer again once they have read it"


def _sum(counts: Counts) -> str:
    return (
        f"the log lacks {counts.entries} entries of the list ({counts.suppressed} addresses could be mailed that "
        f"must not), {counts.markers} markers of duplicates and {counts.calls} owed calls"
    )
