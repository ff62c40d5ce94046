"""What a former release left in a spool: a RocksDB, from which rows are only read.

A shell over rocksdict. It is opened for reading, which needs no room but that of one file that rocksdict writes over;
and its own lock is held, so a process of the former release does not open it meanwhile. How far it is sent is noted
nowhere: a process that is killed before the end sends all of it again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import structlog
from rocksdict import AccessType, DBRecoveryMode, Options, Rdict

from ingress import spooling
from ingress.folders import Folder
from ingress.framing import Loss, Scan
from ingress.segments import Held
from pipeline import rocks
from pipeline.errors import StoreBroken, StoreLocked

log = structlog.get_logger(__name__)


class Former:
    """A folder of a former release; to the spool it is as a file of rows.

    damaged  that something is missing: it will be set aside
    """

    def __init__(self, folder: Folder) -> None:
        """Raises StoreLocked if a process has it, StoreBroken if nothing of it can be read."""
        self.folder = folder
        self.path = folder.path
        self._lock = _locked(folder.path / "LOCK")
        try:
            self._db, self.found = _read(folder.path)
        except StoreBroken:
            os.close(self._lock)
            raise
        self.rows, self.size, self.oldest = self.found.rows, self.found.size, self.found.oldest
        self.damaged = False
        self._first = 0

    def head(self, rows: int, size: int) -> list[Held]:
        """The oldest rows that are not in Kafka, of so many bytes or one. Raises OSError."""
        held: list[Held] = []
        try:
            for key, value in rocks.rows(self._db, self._first.to_bytes(8, "big")):
                size -= len(value)
                if held and (len(held) == rows or size < 0):
                    break
                number = int.from_bytes(key, "big")
                held.append(Held(number, len(value), spooling.decode(value), number + 1))
        except Exception as error:  # rocksdict raises nothing narrower
            log.error("a row of the spool cannot be read", folder=str(self.path), error=str(error))
        return held

    def drop(self, rows: Sequence[Held]) -> None:
        """Kafka has these, the oldest ones."""
        self._first = rows[-1].end
        self.rows -= len(rows)
        self.size -= sum(row.size for row in rows)

    def close(self) -> None:
        """Release it; what is in it stays."""
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """It is done. Out of reach first: whoever opened it in between would have its files removed under it."""
        gone = self.path.with_name(f"~{self.path.name}-{self.path.stat().st_ino}")
        self.set_aside(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self, to: Path) -> None:
        """What is intact in it is in Kafka; keep it for people to look at."""
        try:
            self.path.rename(to)
        except OSError as error:
            log.error("a folder of the spool cannot be moved", folder=str(self.path), error=str(error))
        self.close()

    def lost(self) -> Loss | None:
        """What could not be read of it though it was there before, once nothing of it is left to send."""
        return Loss(self.rows, self.oldest, None) if self.rows else None


def _locked(path: Path) -> int:
    """RocksDB's own lock, taken."""
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreLocked(f"{path.parent} is open in another process") from None
    return lock


def _read(path: Path) -> tuple[Rdict, Scan]:
    """The database and what stands in it: all of it, or what is intact."""
    reason = ""
    for mode in (DBRecoveryMode.tolerate_corrupted_tail_records(), DBRecoveryMode.skip_any_corrupted_record()):
        options = Options(raw_mode=True)
        options.set_wal_recovery_mode(mode)
        try:
            db = Rdict(str(path), options, access_type=AccessType.read_only(False))
        except Exception as error:  # rocksdict raises nothing narrower
            reason = str(error)
            continue
        found, whole = _scan(db)
        if reason or not whole:
            found.losses.append(Loss(1, found.latest, None))
        return db, found
    raise StoreBroken(reason)


def _scan(db: Rdict) -> tuple[Scan, bool]:
    """What stands in it, and whether all of it could be read. Numbers begin anywhere and are contiguous."""
    found = Scan(first=0, next=0)
    try:
        for key, value in rocks.rows(db):
            number, at = int.from_bytes(key, "big"), spooling.decode(value).at
            if found.rows:
                found.expect(number, at)
            found.next = number + 1
            found.oldest = at if found.oldest is None else found.oldest
            found.latest = at
            found.rows += 1
            found.size += len(value)
    except Exception as error:  # rocksdict raises nothing narrower
        log.error("a part of the spool cannot be read", error=str(error))
        return found, False
    return found, True
