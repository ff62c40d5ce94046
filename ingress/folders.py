"""Folders of the spool, each for one process at a time.

A shell over flock. The lock is on the folder itself: it needs no file, so it can be had while the disk is full. A
folder is removed only while it is locked and only when it is empty, in one step: whoever waited for it finds that it
is gone.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pipeline.errors import StoreLocked


class Folder:
    """A folder that this process has for itself until `release` or `remove`."""

    def __init__(self, path: Path) -> None:
        """Raises StoreLocked if another process has it, or removed it meanwhile; OSError if it cannot be had."""
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(path.stat(), os.fstat(self._fd)):
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            self.release()
            raise StoreLocked(f"{path} is open in another process, or gone") from None

    def sync(self) -> None:
        """Return once the names of its files are on the disk."""
        os.fsync(self._fd)

    def release(self) -> None:
        """Whoever wants it may have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Remove it and release it. Raises OSError, and releases it, if there is still something in it."""
        try:
            self.path.rmdir()
        finally:
            self.release()


def make(path: Path) -> Folder:
    """A folder that was not there before, its name on the disk.

    Raises FileExistsError if it was, StoreLocked if another process was quicker, or OSError.
    """
    path.mkdir()
    made = Folder(path)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
    return made
