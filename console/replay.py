"""`postlog replay`: process events again, by moving the processors' offsets back, or work the state out anew.

The command line of both; replay_work.py moves offsets, rebuild.py works the state out anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import click
from aiokafka.errors import KafkaError

from console import options, rebuild, replay_work, rewind
from console.running import Folder
from pipeline import security
from pipeline.errors import PostlogError

_HELP = """Process events again, by moving the processors' offsets back.

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
What follows from events that are not on the log any more is kept. Entries whose key an earlier release gave their
address are joined into those of the address as it is written now, unless --partition is given; the log is told of
them, so that handlers are called for these.

Exits with 0 if the offsets are where they should be, 1 if not, 2 if the command is wrong.

\b
  postlog replay --from 2h --dry-run
  postlog replay --from 2026-01-31T08:00:00Z
  postlog replay --from 2026-01-31 --to 2026-02-01 --without-handlers
  postlog replay --from-offset 3:1200 --from-offset 4:0 --yes
  postlog replay --rebuild --dry-run
  postlog replay --rebuild --wait 3600
"""


@dataclass(frozen=True, slots=True)
class Given:
    """The options as they were typed; times in ms, wait in seconds."""

    since: int | None
    offsets: list[tuple[int, int]]
    from_beginning: bool
    after_loss: bool
    until: int | None
    without_handlers: bool
    dry_run: bool
    yes: bool
    wait: float
    skip_unprocessed: bool
    anew: bool
    numbers: tuple[int, ...]
    forget_expired: bool
    as_json: bool

    @property
    def places(self) -> int:
        """How many of the options that say from where are given."""
        return [self.since is not None, bool(self.offsets), self.from_beginning, self.after_loss].count(True)


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


@click.command(help=_HELP)
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
def replay(environ: options.Environ, /, *, folder: Folder, **typed: Any) -> None:
    """Check the options, and do it. What people read is _HELP."""
    given = Given(**typed)
    # Checked before anything is asked of Kafka.
    work = _rebuild(environ, folder, given) if given.anew else _move(environ, folder, given)
    try:
        asyncio.run(work)
    except KafkaError as error:
        raise security.told(error) from None


def _rebuild(environ: options.Environ, folder: Folder, given: Given) -> Coroutine[Any, Any, None]:
    """The work of --rebuild. Raises UsageError for options that do not go with it."""
    if given.places or given.until is not None or given.without_handlers or given.skip_unprocessed:
        raise click.UsageError(
            "--rebuild reads the whole log and moves no offset: give it no place, --to or the like"
        )
    wish = rebuild.Wish(
        partitions=sorted(set(given.numbers)),
        forget_expired=given.forget_expired,
        dry_run=given.dry_run,
        yes=given.yes,
        wait=given.wait,
        as_json=given.as_json,
        folder=folder.scratch,
    )
    return rebuild.rebuild(options.cluster_settings(environ, folder), wish)


def _move(environ: options.Environ, folder: Folder, given: Given) -> Coroutine[Any, Any, None]:
    """The work of all other options. Raises UsageError for options that contradict each other."""
    _require_sense(given)
    wish = replay_work.Wish(
        at=given.since,
        to=given.until,
        handlers=not given.without_handlers,
        offsets=given.offsets,
        dry_run=given.dry_run,
        yes=given.yes,
        skip_unprocessed=given.skip_unprocessed or given.after_loss,
        wait=given.wait,
        as_json=given.as_json,
        folder=folder.path,
        lost=given.after_loss,
    )
    return replay_work.move(options.cluster_settings(environ, folder), wish)


def _require_sense(given: Given) -> None:
    if given.numbers or given.forget_expired:
        raise click.UsageError("--partition and --forget-expired belong to --rebuild")
    if given.places != 1:
        raise click.UsageError("give one of --from TIME, --from-offset P:O, --from-beginning and --after-loss")
    if given.after_loss and (given.until is not None or given.without_handlers):
        raise click.UsageError("--after-loss processes what is new: give it no --to and no --without-handlers")
    if given.since is not None and given.until is not None and given.until <= given.since:
        raise click.UsageError("--to must be later than --from")
