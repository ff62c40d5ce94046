"""`postlog replay --rebuild`: the state worked out anew from the log, and put in the place of what is in use.

`processor.rebuild` does it for one lane; this follows all of them, waits for the processors to be out, and shows what
would change before anything does.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from console import consent, event_log, options, rebuild_report, vacancy
from console.group import Group, open_group
from console.rebuild_report import Report, Row
from console.rewind import Partition
from console.running import SCRATCH
from pipeline import kafka
from pipeline.contract import Event
from pipeline.errors import Fenced, Interrupted, PostlogError
from pipeline.settings import Settings
from processor.rebuild import Rebuild, join_former

#: Lanes that read at once: each has a fetch buffer and a store.
AT_ONCE = 4
#: A pass that read fewer events than this has caught up.
FEW = 20_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. partitions: empty means all; wait in seconds, once it has caught up."""

    partitions: Sequence[int]
    forget_expired: bool
    dry_run: bool
    yes: bool
    wait: float
    as_json: bool
    folder: Path


async def rebuild(settings: Settings, wish: Wish) -> None:
    """Do it, and say what was done. Raises PostlogError if it cannot be done, or if nobody confirmed it."""
    async with open_group(settings) as group:
        if not wish.dry_run and not wish.wait and (members := await group.members()):
            raise PostlogError(rebuild_report.in_use(group.name, members))
        async with _lanes(settings, group, wish) as lanes:
            await _catch_up(group, lanes, wish)
            if not wish.dry_run:
                await _each(lanes, lambda lane: lane.fence())
            # What was committed before the fence and after the last look.
            await _follow(group, lanes, lambda *_: None, [] if wish.dry_run else [lane.number for lane in lanes])
            told = [] if wish.partitions else join_former(lanes, int(time.time() * 1000))
            report = await _compare(group, lanes, wish)
            if not wish.as_json:
                options.printer().print(rebuild_report.render(report))
            if report.changes and not wish.dry_run:
                consent.require(rebuild_report.question(report), yes=wish.yes)
                await _commit(settings, lanes, told)
                report = msgspec.structs.replace(report, done=True)
            click.echo(msgspec.json.encode(report) if wish.as_json else rebuild_report.ending(report))


@asynccontextmanager
async def _lanes(settings: Settings, group: Group, wish: Wish) -> AsyncIterator[list[Rebuild]]:
    """The rebuilds of the chosen partitions, begun, in a folder that goes with them."""
    topics = await kafka.require_topics(settings)
    count = topics.events.partitions
    for number in wish.partitions:
        if number >= count:
            raise PostlogError(f"--partition {number}: there is none, they are 0 to {count - 1}")
    wish.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=wish.folder) as scratch:
        async with AsyncExitStack() as exits:
            lanes = []
            for number in wish.partitions or range(count):
                lane = Rebuild(
                    number, settings, topics, group.name, Path(scratch), forget_expired=wish.forget_expired
                )
                lanes.append(await exits.enter_async_context(lane))
            await _each(lanes, lambda lane: lane.begin())
            yield lanes


async def _catch_up(group: Group, lanes: list[Rebuild], wish: Wish) -> None:
    """Follow the processors until nobody is in the group, or once for a dry run."""
    deadline: float | None = None
    with _bar() as moved:
        while True:
            read = await _follow(group, lanes, moved)
            members = [] if wish.dry_run else await group.members()
            if not members:
                return
            if read >= FEW:
                continue
            if deadline is None:
                deadline = time.monotonic() + wish.wait
                click.echo(rebuild_report.stop_now(group.name, members, wish.wait), err=True)
            if time.monotonic() > deadline:
                raise PostlogError(rebuild_report.in_use(group.name, members))
            await asyncio.sleep(vacancy.EVERY)


async def _follow(
    group: Group, lanes: list[Rebuild], moved: Callable[[int, int], None], final: Collection[int] = ()
) -> int:
    """Read on to where processors are now; how many records that were.

    moved  takes the records of a step, and of all that are to be read
    final  partitions that are fenced
    """
    ends = {
        p.number: _end(p, lane) for p in await group.partitions(final) for lane in lanes if lane.number == p.number
    }
    total = sum(max(ends[lane.number] - lane.next, 0) for lane in lanes)
    await _each(lanes, lambda lane: lane.follow(ends[lane.number], lambda step: moved(step, total)))
    return total


def _end(partition: Partition, lane: Rebuild) -> int:
    """The offset up to which the state in use has everything."""
    if partition.committed is None and partition.end and lane.used:
        raise PostlogError(
            f"partition {partition.number}: the group has no committed offset, so nobody knows up to where its state "
            "goes. Start a processor and do what it says, or reset the group; see docs/operations.md"
        )
    if partition.processed > partition.end:
        raise PostlogError(
            f"partition {partition.number}: the log ends at {partition.end}, before the committed offset "
            f"{partition.processed}: the cluster has lost its end. Start a processor and do what it says"
        )
    return partition.processed


async def _compare(group: Group, lanes: list[Rebuild], wish: Wish) -> Report:
    first = {p.number: p.beginning for p in await group.partitions()}
    rows = []
    for lane in lanes:
        counts = await lane.compare()
        rows.append(Row(partition=lane.number, first=first[lane.number], end=lane.next, counts=counts))
    return rebuild_report.of(group.name, rows, forget_expired=wish.forget_expired)


async def _commit(settings: Settings, lanes: list[Rebuild], told: Sequence[Event]) -> None:
    """Write the difference: first what is told again, and former keys go last, so that nothing is lost between."""
    if told:
        await event_log.append(settings, told)
    await _write(lanes, lambda lane: lane.commit())
    await _write(lanes, lambda lane: lane.drop_former())


async def _write(lanes: list[Rebuild], write: Callable[[Rebuild], Awaitable[None]]) -> None:
    for done, lane in enumerate(lanes):
        try:
            await write(lane)
        except asyncio.CancelledError:
            raise Interrupted(
                f"{done} of {len(lanes)} partitions are rebuilt, each as a whole: the same command can be typed again"
            ) from None
        except Fenced as error:
            raise PostlogError(
                f"{error}. {done} of {len(lanes)} partitions are rebuilt, each as a whole: stop all processors, and "
                "repeat the command for the others"
            ) from None


async def _each(lanes: Sequence[Rebuild], work: Callable[[Rebuild], Awaitable[None]]) -> None:
    """Do it for every lane, some at a time; the first failure ends all."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(lane: Rebuild) -> None:
        async with room:
            await work(lane)

    try:
        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                tasks.create_task(one(lane))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the terminal's standard error, nothing where there is none."""
    console = Console(stderr=True)
    columns = (TextColumn("reading the log"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    read = 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def moved(step: int, total: int) -> None:
            nonlocal read
            read += step
            bar.update(task, completed=read, total=max(total, read))

        yield moved
