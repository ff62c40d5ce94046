"""What `postlog replay` does: it shows where the group would go, asks, and moves it there.

A shell over `console.group`; `console.rewind` has the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from console import consent, options, replay_report, rewind, vacancy
from console.group import Group, open_group
from console.rewind import Move, Partition
from pipeline.errors import PostlogError
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. at is a time in ms, offsets are (partition, offset); neither means the beginning.

    lost  behind what the log has lost, instead of any of these
    to  time in ms of the first event that is not processed again; None for no limit
    """

    at: int | None
    to: int | None
    handlers: bool
    offsets: Sequence[tuple[int, int]]
    dry_run: bool
    yes: bool
    skip_unprocessed: bool
    wait: float
    as_json: bool
    folder: Path
    lost: bool = False


async def move(settings: Settings, wish: Wish) -> None:
    """Do it, and say what was done. Raises PostlogError if it cannot be done, or if nobody confirmed it."""
    async with open_group(settings) as group:
        # A dry run changes nothing, so that it may look while processors work.
        if not wish.dry_run:
            await vacancy.until_empty(group, settings.processor_session_timeout_seconds, wish.wait)
        moves = await _moves(group, wish)
        report = replay_report.of(group.name, group.topic, moves, wish.folder)
        if not wish.as_json:
            options.printer().print(replay_report.render(report))
        refused = rewind.refusal(moves)
        if refused and not wish.skip_unprocessed:
            raise PostlogError(refused)
        if refused:
            click.echo(f"warning: {report.skipped} events will never be processed", err=True)
        changed = rewind.offsets(moves)
        if changed and not wish.dry_run:
            consent.require(f"Move {report.group} and process {report.again} events again?", yes=wish.yes)
            await group.fence(changed)
            if rewind.offsets(await _moves(group, wish, final=changed)) != changed:
                raise PostlogError("the group or the log moved meanwhile, and nothing was changed: try again")
            await group.commit({m.partition: (m.new, m.metadata) for m in moves if m.partition in changed})
            report = msgspec.structs.replace(report, done=True)
        click.echo(msgspec.json.encode(report) if wish.as_json else replay_report.ending(report))


async def _moves(group: Group, wish: Wish, final: Collection[int] = ()) -> list[Move]:
    partitions: list[Partition] = await group.partitions(final)
    moves = await _whole_moves(group, partitions, wish)
    if wish.to is None and wish.handlers:
        return moves
    until = None if wish.to is None else await group.first_at(wish.to)
    return rewind.bounded(moves, partitions, until, handlers=wish.handlers)


async def _whole_moves(group: Group, partitions: list[Partition], wish: Wish) -> list[Move]:
    if wish.lost:
        return rewind.after_loss(partitions, await group.lost(partitions))
    if wish.offsets:
        return rewind.to_offsets(partitions, wish.offsets)
    if wish.at is None:
        return rewind.to_beginning(partitions)
    return rewind.to_times(partitions, await group.first_at(wish.at))
