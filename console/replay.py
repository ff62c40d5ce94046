"""`postlog replay`: process events again, by moving the processors' offsets back."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from aiokafka.errors import KafkaError

from console import options, rebuild, replay_report, rewind, vacancy
from console.group import Group, open_group
from console.rewind import Move, Partition
from console.running import Folder
from pipeline import security
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


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else rewind.moment(text, int(time.time() * 1000))
    except PostlogError as error:
        raise click.BadParameter(str(error)) from None


def _offsets(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[tuple[int, int]]:
    try:
        return [rewind.offset(text) for text in texts]
    except PostlogError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--from", "since", metavar="TIME", callback=_moment, help="Events that arrived at TIME or later.")
@click.option(
    "--from-offset",
    "offsets",
    metavar="P:O",
    multiple=True,
    callback=_offsets,
    help="Partition P from offset O; repeatable.",
)
@click.option("--from-beginning", is_flag=True, help="Everything that is still on the log.")
@click.option(
    "--after-loss",
    is_flag=True,
    help="Where a processor stops since records are lost: go on behind them, and accept that.",
)
@click.option(
    "--to",
    "until",
    metavar="TIME",
    callback=_moment,
    help="Only events that arrived before TIME.",
)
@click.option(
    "--without-handlers",
    is_flag=True,
    help="Repair the list alone: call no handler for what comes again.",
)
@click.option("--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait as long for the last processor to be out of the group.",
)
@click.option(
    "--skip-unprocessed",
    is_flag=True,
    help="Also move forward, past events that were never processed: nobody will process them.",
)
@click.option("--rebuild", "anew", is_flag=True, help="Work the state out anew from the whole log; see above.")
@click.option(
    "--partition",
    "numbers",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="P",
    help="With --rebuild: only this partition; repeatable. Several machines can share the work.",
)
@click.option(
    "--forget-expired",
    is_flag=True,
    help="With --rebuild: drop what only events tell that are not on the log any more. There is no way back.",
)
@options.as_json
@options.data
@click.pass_obj
def replay(
    environ: options.Environ,
    *,
    since: int | None,
    offsets: list[tuple[int, int]],
    from_beginning: bool,
    after_loss: bool,
    until: int | None,
    without_handlers: bool,
    dry_run: bool,
    yes: bool,
    wait: float,
    skip_unprocessed: bool,
    anew: bool,
    numbers: tuple[int, ...],
    forget_expired: bool,
    as_json: bool,
    folder: Folder,
) -> None:
    """Process events again, by moving the processors' offsets back.

    Stop all processors first, and start them again afterwards. Originals are processed again with the same result,
    duplicates are still dropped; after a word of a provider was added to the table, events with that word count.

    With --to, events that came later are not processed again, unless they never were; with --without-handlers
    handlers are called again only from where the group is now. Both hold through crashes and restarts of processors,
    until that place is reached, or until another replay.

    --after-loss is for a processor that stops itself because the log and the committed offset contradict each other.
    Each partition goes on with the first record on its log that was never processed; where nobody can tell which that
    is, all of it is processed again, with the same result. Partitions in which nothing is lost stay.

    TIME is a duration back from now (2h, 3d), a day (2026-01-31) or RFC 3339, in UTC unless it says otherwise. It
    is compared with the time at which Kafka took the event.

    --rebuild throws the state away instead: the list and the duplicates' markers are worked out from the log as if
    nothing had been there, beside what is in use, while processors go on. When that has caught up, all processors
    must be stopped for a moment (--wait tells how long to wait for that), and what differs is written, a whole
    partition at a time. No handler is called, no dead letter written, no offset moved; calls that are owed stay owed.
    What follows from events that are not on the log any more is kept.

    Exits with 0 if the offsets are where they should be, 1 if not, 2 if the command is wrong.

    \b
      postlog replay --from 2h --dry-run
      postlog replay --from 2026-01-31T08:00:00Z
      postlog replay --from 2026-01-31 --to 2026-02-01 --without-handlers
      postlog replay --from-offset 3:1200 --from-offset 4:0 --yes
      postlog replay --rebuild --dry-run
      postlog replay --rebuild --wait 3600
    """
    if anew:
        if (
            since is not None
            or offsets
            or from_beginning
            or after_loss
            or until is not None
            or without_handlers
            or skip_unprocessed
        ):
            raise click.UsageError(
                "--rebuild reads the whole log and moves no offset: give it no place, --to or the like"
            )
        asked = rebuild.Wish(
            partitions=sorted(set(numbers)),
            forget_expired=forget_expired,
            dry_run=dry_run,
            yes=yes,
            wait=wait,
            as_json=as_json,
            folder=folder.scratch,
        )
        _run(rebuild.rebuild(options.cluster_settings(environ, folder), asked))
        return
    if numbers or forget_expired:
        raise click.UsageError("--partition and --forget-expired belong to --rebuild")
    if [since is not None, bool(offsets), from_beginning, after_loss].count(True) != 1:
        raise click.UsageError("give one of --from TIME, --from-offset P:O, --from-beginning and --after-loss")
    if after_loss and (until is not None or without_handlers):
        raise click.UsageError("--after-loss processes what is new: give it no --to and no --without-handlers")
    if since is not None and until is not None and until <= since:
        raise click.UsageError("--to must be later than --from")
    wish = Wish(
        at=since,
        to=until,
        handlers=not without_handlers,
        offsets=offsets,
        dry_run=dry_run,
        yes=yes,
        skip_unprocessed=skip_unprocessed or after_loss,
        wait=wait,
        as_json=as_json,
        folder=folder.path,
        lost=after_loss,
    )
    _run(_replay(options.cluster_settings(environ, folder), wish))


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except KafkaError as error:
        raise security.told(error) from None


async def _replay(settings: Settings, wish: Wish) -> None:
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
            _confirm(report, wish)
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


def _confirm(report: replay_report.Report, wish: Wish) -> None:
    if wish.yes:
        return
    if not sys.stdin.isatty():
        raise PostlogError(replay_report.NOBODY_THERE)
    if not click.confirm(f"Move {report.group} and process {report.again} events again?", err=True):
        raise PostlogError("nothing was changed")
