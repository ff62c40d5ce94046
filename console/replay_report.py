"""What `postlog replay` says: what would happen, what was done, and why not. Values in, text out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table

from console import rewind
from console.group import Member
from console.rewind import Move


class Report(msgspec.Struct, frozen=True):
    """What --json prints.

    done   whether the offsets were moved
    again  events that are processed again; skipped, those that never will be; passed, those that are not again
    back   the command that puts the group back to where it was; empty if nothing moves
    """

    group: str
    topic: str
    done: bool
    again: int
    skipped: int
    passed: int
    back: str
    partitions: list[Move]


def of(group: str, topic: str, moves: list[Move], folder: Path) -> Report:
    """The report of these moves, not done yet; folder is what --data says."""
    back = rewind.way_back(moves)
    where = [] if folder == Path(".data") else ["--data", str(folder)]
    return Report(
        group=group,
        topic=topic,
        done=False,
        again=sum(move.again for move in moves),
        skipped=sum(move.skipped for move in moves),
        passed=sum(move.passed for move in moves),
        back=shlex.join(["postlog", *back, *where]) if back else "",
        partitions=moves,
    )


def in_use(group: str, members: Sequence[Member], session: float) -> str:
    """Why offsets cannot be moved now, and what to do; session is the members' timeout in seconds."""
    return (
        f"{group} is in use by {named(members)}. Offsets move only while no processor runs: stop all of them "
        "(SIGTERM; docker compose stop processor) and repeat the command. One that was killed counts until its "
        f"session timeout has passed, {session:g} s by the settings here: --wait {session + 5:.0f} waits for it"
    )


def waiting(group: str, members: Sequence[Member], seconds: float) -> str:
    """What is being waited for, and how long at most."""
    return f"waiting {seconds:.0f} s at most for {named(members)} to leave {group}"


def named(members: Sequence[Member]) -> str:
    """Who they are, with their number."""
    count = "1 member" if len(members) == 1 else f"{len(members)} members"
    return f"{count} ({', '.join(sorted(f'{m.client} on {m.host}' for m in members))})"


def render(report: Report) -> RenderableType:
    """What happens to every partition, for people."""
    table = Table(title=f"{report.group} on {report.topic}", title_justify="left")
    headings = ("partition", "committed", "new", "end", "again")
    for heading in (*headings, "skipped") if report.skipped else headings:
        table.add_column(heading, justify="right")
    for move in report.partitions:
        row = [move.partition, move.committed, move.new, move.end, move.again]
        table.add_row(*map(str, [*row, move.skipped] if report.skipped else row))
    lines = [f"{report.again} events are processed again"]
    if report.passed:
        lines.append(f"{report.passed} later ones are passed over: they were processed before")
    if any('"handlers":false' in move.metadata for move in report.partitions):
        lines.append("no handler is called for them")
    if gone := sum(move.gone for move in report.partitions):
        lines.append(f"{gone} older events are gone: retention has removed them from the log")
    return Group(table, *lines)


def ending(report: Report) -> str:
    """What was done and what to do now."""
    if not report.back:
        return "nothing to do: the offsets are there already"
    if not report.done:
        return "nothing was changed"
    return "\n".join(
        [
            "done: start the processors again, and watch the lag fall with postlog status --watch",
            "to go back to where the group was, stop them first and then:",
            f"  {report.back}",
        ]
    )
