"""What processes left in the spool that are gone: their rows have to be sent, too.

A shell over the folder of the spools. Whatever is found there, and however full its disk is, the ingress starts: what
cannot be read stays where it is, and people are told.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Protocol

import structlog

from ingress.folders import Folder
from ingress.former import Former
from ingress.framing import Loss, Scan
from ingress.segments import Held, Segment, paths
from pipeline.contract import Millis
from pipeline.errors import StoreBroken, StoreLocked

log = structlog.get_logger(__name__)


class Source(Protocol):
    """Rows on the disk, oldest first: a file of them, or what a former release left."""

    folder: Folder
    path: Path
    rows: int
    size: int
    oldest: Millis | None
    damaged: bool

    def head(self, rows: int, size: int) -> list[Held]: ...
    def drop(self, rows: Sequence[Held]) -> None: ...
    def close(self) -> None: ...
    def remove(self) -> None: ...
    def set_aside(self, to: Path) -> None: ...
    def lost(self) -> Loss | None: ...


class Names:
    """Who is called what in the folder of the spools."""

    def __init__(self, place: Path, prefix: str) -> None:
        """prefix  that of the topics: several postlogs may share the folder"""
        self.place = place
        self._prefix = prefix

    def folder(self, number: int) -> Path:
        """A process's folder."""
        return self.place / f"{self._prefix}spooled-{number}"

    def next_number(self) -> int:
        """The number for a new folder: above those of all that are there."""
        return max((int(path.name.rpartition("-")[2]) for path in self.folders()), default=-1) + 1

    def folders(self) -> list[Path]:
        """Those of all processes, oldest number first."""
        return self._found(r"spooled-\d+")

    def former(self) -> list[Path]:
        """Those of a former release."""
        return self._found(r"spool-\d+")

    def damaged(self) -> list[Path]:
        """What was set aside."""
        return self._found("damaged-.+")

    def aside(self, path: Path) -> Path:
        """Where a damaged file or folder goes: nobody has this name."""
        name = path.name if path.parent == self.place else f"{path.parent.name}-{path.name}"
        tried = (self.place / f"{self._prefix}damaged-{name}-{number}" for number in count(1))
        return next(found for found in tried if not found.exists())

    def gone(self) -> list[Path]:
        """What a process was removing when it was killed."""
        return self._found(r"spool-\d+-\d+", "~")

    def all(self) -> list[Path]:
        """Whatever has a name of ours."""
        return [*self.folders(), *self.former(), *self.damaged(), *self.gone()]

    def _found(self, pattern: str, first: str = "") -> list[Path]:
        whole = re.compile(re.escape(first + self._prefix) + pattern)
        found = [path for path in self.place.iterdir() if whole.fullmatch(path.name)]
        return sorted(found, key=lambda path: (len(path.name), path.name))


def take_over(names: Names) -> tuple[list[Source], list[Path]]:
    """What nobody holds, in the order in which it was taken; and what of it cannot be read, and stays where it is."""
    for path in names.gone():
        shutil.rmtree(path, ignore_errors=True)
    sources: list[Source] = []
    unreadable: list[Path] = []
    for path in names.former():
        try:
            sources.append(_former(path))
        except StoreLocked:
            continue
        except (OSError, StoreBroken) as error:
            unreadable.append(path)
            _stays(path, error)
    for path in names.folders():
        try:
            folder = Folder(path)
            sources += _files(folder, unreadable)
        except StoreLocked:
            continue
        except OSError as error:
            unreadable.append(path)
            _stays(path, error)
    return sources, unreadable


def _former(path: Path) -> Source:
    folder = Folder(path)
    try:
        found = Former(folder)
    except Exception:
        folder.release()
        raise
    _judge(found, found.found, None)
    return found


def _files(folder: Folder, unreadable: list[Path]) -> list[Source]:
    """The files of a folder, the damaged ones told; without any the folder is removed."""
    found: list[tuple[Segment, Scan]] = []
    for path in paths(folder.path):
        try:
            found.append(Segment.open(folder, path))
        except OSError as error:
            unreadable.append(path)
            _stays(path, error)
    for index, (segment, scanned) in enumerate(found):
        _judge(segment, scanned, found[index + 1][1] if found[index + 1 :] else None)
    if not found:
        discard(folder)
    return [segment for segment, _ in found]


def _judge(source: Source, found: Scan, following: Scan | None) -> None:
    """Say what is missing of a file. Garbage at its end is none of it if the next one goes on where it ended."""
    if following is None:
        if found.broken:
            found.losses.append(Loss(1, found.latest, None))
    elif following.first > found.next:
        found.losses.append(Loss(following.first - found.next, found.latest, following.oldest))
    for loss in found.losses:
        tell(source, loss)


def tell(source: Source, loss: Loss) -> None:
    """Rows that were answered 200 are gone: say which, and what to do."""
    source.damaged = True
    log.error(
        "the spool is damaged, and deliveries that were answered 200 are lost: ask the provider for all of this time",
        file=str(source.path),
        lost=f"{loss.rows} records or more",
        taken_after=_time(loss.after),
        taken_before=_time(loss.before),
        intact=source.rows,
        next="what is intact is sent; then the file is set aside in INGRESS_SPOOL_DIR as damaged-…",
    )


def discard(folder: Folder) -> None:
    """Nothing of ours is in it any more. What else is in it keeps it there."""
    try:
        folder.remove()
    except OSError as error:
        log.warning("a folder of the spool stays", folder=str(folder.path), error=str(error))


def _stays(path: Path, error: Exception) -> None:
    log.error(
        "a part of the spool cannot be read, so it is not sent and stays as it is: correct that and start again",
        path=str(path),
        error=str(error),
    )


def _time(at: Millis | None) -> str:
    return "unknown" if at is None else datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds")
