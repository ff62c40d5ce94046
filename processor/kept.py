"""A lane's copy on this disk, and the changelogs it is a copy of: may it go on, and what is to be done if not.

A shell. A log that has lost its end, or was deleted and made anew, is not the truth about what happened: a copy that
knows more is kept, and the lane stops until somebody says what to do with it. See docs/decisions/0022.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog
from aiokafka import AIOKafkaConsumer

from pipeline.errors import StateLost
from processor import changelog, dedup, lacking, store
from processor.lacking import Counts, Lacking
from processor.place import Fit
from processor.site import Site
from processor.store import Store, open_store

log = structlog.get_logger(__name__)

#: What an operator types; docs/operations.md says more.
CURE = (
    "The copy is kept. Stop all processors, and type here: postlog state write-back, with the STATE_DIR of this "
    "processor. If you accept the loss: postlog state discard, and then postlog replay --rebuild. "
    'docs/operations.md, "the copy of its state knows more than the log", says more'
)
#: For a lane without a copy.
ELSEWHERE = (
    "If another processor has a copy of this lane, stop all processors, and type on its machine: "
    "postlog state write-back"
)


async def opened(reader: AIOKafkaConsumer, site: Site, number: int, moved: Callable[[], None]) -> tuple[Store, int]:
    """The lane's store at the end of its changelogs, and the number of rows that were read for it.

    A copy that is stale, or suspect and knows nothing of its own, is thrown away and restored from nothing.

    Raises StateLost if the copy knows what the changelogs do not; it is kept then.
    """
    path, partitions = site.store_of(number), site.changelogs(number)
    found = open_store(path)
    try:
        fit, reason = await changelog.judge(reader, found, partitions, site.tombstones)
        if fit is Fit.SUSPECT:
            await _require_nothing_lost(reader, site, number, found, reason, moved)
        if fit is not Fit.CONTINUES:
            log.warning("store discarded, restoring all of it", partition=number, reason=reason)
            found.close()
            store.discard(path)
            found = open_store(path)
        return found, await changelog.restore(reader, found, partitions, moved, fenced=True)
    except BaseException:
        found.close()
        raise


async def _require_nothing_lost(
    reader: AIOKafkaConsumer, site: Site, number: int, copy: Store, reason: str, moved: Callable[[], None]
) -> None:
    scratch = site.store_of(number).with_name(f"log-{number}")
    store.discard(scratch)
    there = open_store(scratch)
    try:
        # Where a log lost the end of a transaction with the rest, what was in it counts as lost, too.
        found = await compare(reader, site, number, copy, there, moved, fenced=False)
        noted = [key for key, _ in there.rows("incidents")]
    finally:
        there.close()
        store.discard(scratch)
    if counts := found.counts:
        raise StateLost(f"{reason}. The copy in {copy.path} knows {told(counts)} that the log does not", noted)


async def compare(
    reader: AIOKafkaConsumer,
    site: Site,
    number: int,
    copy: Store,
    there: Store,
    moved: Callable[[], None],
    *,
    fenced: bool,
) -> Lacking:
    """What the copy knows and the changelogs do not; `there` is empty, and holds what they say afterwards.

    Raises HangingTransaction if not all of them can be read.
    """
    await changelog.restore(reader, there, site.changelogs(number), moved, fenced=fenced, keep_done=True)
    # Older ones are out of every window, and retention has removed them.
    floor = dedup.floor(int(time.time() * 1000))
    listed = list(lacking.of_lists(there.rows("suppressions"), copy.rows("suppressions")))
    return Lacking(
        suppressions={key: entry for key, entry, _ in listed},
        seen=dict(lacking.missing(there.rows("seen"), copy.rows("seen"), floor=floor)),
        calls=dict(lacking.missing(there.rows("calls"), copy.rows("calls"))),
        suppressed=sum(suppresses for *_, suppresses in listed),
    )


def told(counts: Counts) -> str:
    """Counts in words, without those that are 0."""
    words = [
        (counts.entries, "entries of the list"),
        (counts.markers, "markers of duplicates"),
        (counts.calls, "owed calls of handlers"),
    ]
    return ", ".join(f"{count} {what}" for count, what in words if count)


def copies(folder: Path) -> dict[int, Path]:
    """The copies in a processor's folder, by lane."""
    names = {path.name.removeprefix("lane-"): path for path in folder.glob("lane-*")}
    return {int(name): path for name, path in sorted(names.items()) if name.isdigit()}
