"""One file of the spool: rows are added at its end, and the file goes when all of them are in Kafka.

A shell over files; `framing` knows what stands in one. Nothing but adding rows needs space on the disk: how far it is
sent is written over what is there, and a file that is done is removed. What was damaged is set aside, never removed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from ingress import framing, spooling
from ingress.folders import Folder
from ingress.framing import Intact, Loss, Scan
from ingress.spooling import Row

log = structlog.get_logger(__name__)

#: Bytes from which on a file gets no more rows.
SEGMENT_BYTES = 4 * 1024 * 1024
#: Names of files with rows; the number of the first one follows.
NAMES = "rows-"


class Held(NamedTuple):
    """A row on the disk: its number, its bytes there, what it is, and where the next one stands."""

    number: int
    size: int
    row: Row
    end: int


class Segment:
    """A file of rows.

    rows, size  what of it is not in Kafka yet
    end         bytes that are synced: nobody reads further
    damaged     that something is missing: it will be set aside
    """

    def __init__(self, folder: Folder, path: Path, found: Scan, end: int) -> None:
        self.folder = folder
        self.path = path
        self.rows, self.size, self.oldest = found.rows, found.size, found.oldest
        self.end = end
        self.damaged = False
        self._at = found.at
        self._fd = -1

    @classmethod
    def create(cls, folder: Folder, first: int) -> Segment:
        """A new file for rows from this number on. Raises OSError, and leaves nothing behind."""
        path = folder.path / f"{NAMES}{first:020}"
        made = cls(folder, path, Scan(first, next=first), framing.START)
        made._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write(made._fd, framing.slot(first), 0)
            folder.sync()
        except OSError:
            made.remove()
            raise
        return made

    @classmethod
    def open(cls, folder: Folder, path: Path) -> tuple[Segment, Scan]:
        """A file that a former process left, and what stands in it. Raises OSError."""
        data = path.read_bytes()
        found = framing.scan(data, int(path.name.removeprefix(NAMES)))
        return cls(folder, path, found, max(len(data), found.at)), found

    def _file(self) -> int:
        """The file, open: most of them wait closed, since there may be thousands. Raises OSError."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDWR)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES):
                    raise
                self._fd = os.open(self.path, os.O_RDONLY)
        return self._fd

    def add(self, rows: bytes) -> int:
        """Return where it ends once these are synced to the disk. Raises OSError; then they are not in it."""
        try:
            _write(self._file(), rows, self.end)
            os.fsync(self._file())
        except OSError:
            # Else a later process would take a part of them for rows that were answered for.
            os.ftruncate(self._file(), self.end)
            raise
        return self.end + len(rows)

    def head(self, rows: int, size: int) -> list[Held]:
        """The oldest rows that are not in Kafka, of so many bytes or one; none if nothing intact is left.

        Raises OSError.
        """
        rest = self.end - self._at
        held: list[Held] = []
        for length in dict.fromkeys((min(size, rest), rest)):
            held = []
            for piece in islice(framing.walk(os.pread(self._file(), length, self._at)), rows):
                if isinstance(piece, Intact):
                    held += self._held(piece)
                elif isinstance(piece, framing.Damaged) and length < rest:
                    held = []  # the part that was read may end within a row: look at all of it
                    break
            if held:
                break
        return held

    def _held(self, row: Intact) -> list[Held]:
        try:
            return [Held(row.number, row.end - row.start, spooling.decode(row.value), self._at + row.end)]
        except msgspec.MsgspecError:
            return []  # it is missed when the file is done

    def drop(self, rows: Sequence[Held]) -> None:
        """Kafka has these, the oldest ones. What a crash brings back is sent twice, and dropped there."""
        self._at = rows[-1].end
        self.rows -= len(rows)
        self.size -= sum(row.size for row in rows)
        try:
            _write(self._file(), framing.slot(rows[-1].number + 1), 0)
        except OSError as error:
            log.warning("how far the spool is sent cannot be noted", file=str(self.path), error=str(error))

    def close(self) -> None:
        """Close the file for now; what is in it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """It is done. A disk that does not let it go keeps it: then it is sent again after the next start."""
        self.close()
        try:
            self.path.unlink()
        except OSError as error:
            log.error("a file of the spool cannot be removed", file=str(self.path), error=str(error))

    def set_aside(self, to: Path) -> None:
        """What is intact in it is in Kafka; keep the file for people to look at."""
        self.close()
        try:
            self.path.rename(to)
        except OSError as error:
            log.error("a damaged file of the spool cannot be set aside", file=str(self.path), error=str(error))

    def lost(self) -> Loss | None:
        """What could not be read of it though it was there before, once nothing of it is left to send."""
        return Loss(self.rows, self.oldest, None) if self.rows else None


def paths(folder: Path) -> list[Path]:
    """The files with rows in a folder, oldest first."""
    return sorted(path for path in folder.glob(f"{NAMES}*") if path.name.removeprefix(NAMES).isdecimal())


def _write(fd: int, data: bytes, at: int) -> None:
    """All of it: a disk that is nearly full takes a part, and says why only when it is asked for the rest."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
