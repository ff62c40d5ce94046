"""What `postlog state` does: it looks at the copies that are here, shows what the log lacks, and writes that back.

`processor.writeback` does it for one copy.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from console import consent, options, state_report, vacancy
from console.group import open_group
from console.running import SCRATCH
from console.state_report import Copy
from pipeline import kafka, tombstones
from pipeline.errors import Fenced, Interrupted, PostlogError, StoreBroken
from pipeline.settings import Settings
from processor import kept
from processor.site import Site
from processor.writeback import WriteBack


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. folders are STATE_DIRs; wait in seconds."""

    discard: bool
    folders: Sequence[Path]
    scratch: Path
    dry_run: bool
    yes: bool
    wait: float
    as_json: bool


async def work(settings: Settings, wish: Wish) -> None:
    """Do it, and say what was done. Raises PostlogError if it cannot be done, or if nobody confirmed it."""
    async with open_group(settings) as group:
        if not wish.dry_run:
            await vacancy.until_empty(group, settings.processor_session_timeout_seconds, wish.wait)
    site = await _site(settings)
    found = [(number, path) for folder in wish.folders for number, path in _copies(site, folder)]
    wish.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=wish.scratch) as scratch:
        looked = [await _handle(site, number, path, Path(scratch), wish, fence=False) for number, path in found]
        report = state_report.of(site.group, looked, discard=wish.discard)
        if not wish.as_json:
            options.printer().print(state_report.render(report))
        if report.copies and not wish.dry_run:
            consent.require(state_report.question(report), yes=wish.yes)
            done: list[Copy] = []
            for copy in report.copies:
                done.append(await _do(site, copy, Path(scratch), wish, len(done)))
            report = msgspec.structs.replace(state_report.of(site.group, done, discard=wish.discard), done=True)
        click.echo(msgspec.json.encode(report) if wish.as_json else state_report.ending(report))


async def _site(settings: Settings) -> Site:
    topics = kafka.topics_of(settings)
    return Site(
        settings=settings,
        topics=topics,
        folder=Path(await kafka.cluster_id(settings)) / kafka.group_of(settings, "processor"),
        group=kafka.group_of(settings, "processor"),
        tombstones=await tombstones.last(settings, topics),
    )


def _copies(site: Site, folder: Path) -> list[tuple[int, Path]]:
    found = kept.copies(folder / site.folder)
    return [(number, path) for number, path in found.items() if number < site.topics.events.partitions]


async def _do(site: Site, copy: Copy, scratch: Path, wish: Wish, done: int) -> Copy:
    try:
        return await _handle(site, copy.partition, Path(copy.path), scratch, wish, fence=True)
    except asyncio.CancelledError:
        raise Interrupted(
            f"{done} partitions are done, each as a whole. The same command can be typed again."
        ) from None
    except Fenced as error:
        raise PostlogError(
            f"{error}. Each partition is done as a whole: stop all processors, and repeat the command for the others"
        ) from None


async def _handle(site: Site, number: int, path: Path, scratch: Path, wish: Wish, *, fence: bool) -> Copy:
    """Look at a copy, and once its lane is fenced write it back or give it up."""
    async with WriteBack(number, site, path, scratch) as copy:
        if fence:
            await copy.fence()
        try:
            lacking = (await copy.look()).counts
        except StoreBroken as error:
            if not wish.discard:
                raise
            copy.reason, lacking = str(error), state_report.UNKNOWN
        if fence and copy.reason:
            await (copy.give_up() if wish.discard else copy.write())
        return Copy(partition=number, path=str(path), reason=copy.reason, lacking=lacking)
