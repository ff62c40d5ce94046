"""Where a command writes what a person named: whole or not at all, and never in the place of something else.

A plain file is written beside and takes its name when all is there. A link is followed, so that it stays one. What is
no plain file (a pipe, a terminal, /dev/stdout) cannot be exchanged for one and is written into.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import PostlogError

#: Links that lead to each other are followed this far.
_MOST_LINKS = 40


@contextmanager
def whole(file: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Open what `file` names for writing. A plain file, new or replaced, has this mode.

    Raises PostlogError naming the file if it cannot be written; a plain file is then as it was.
    """
    try:
        if (descriptor := _own_descriptor(file)) is not None:
            # Opened by name it would begin at the start of a file that others have written to.
            with os.fdopen(os.dup(descriptor), "wb") as target:
                yield target
        elif file.exists() and not file.is_file():
            with os.fdopen(os.open(file, os.O_WRONLY), "wb") as target:
                yield target
        else:
            with _beside(_followed(file), mode) as target:
                yield target
    except OSError as error:
        raise PostlogError(f"{file}: cannot be written: {error.strerror}") from None


@contextmanager
def _beside(file: Path, mode: int) -> Iterator[IO[bytes]]:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target:
            partial.chmod(mode)
            yield target
        partial.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def _followed(file: Path) -> Path:
    try:
        return file.resolve()
    except RuntimeError:  # what Python up to 3.12 says of links in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


def _own_descriptor(file: Path) -> int | None:
    """The open file of ours that /dev/stdout, /dev/fd/3 and the like name; None for every other path."""
    folders = {Path(folder).resolve() for folder in ("/dev/fd", "/proc/self/fd")}
    for _ in range(_MOST_LINKS):
        if file.name.isdecimal() and file.parent.resolve() in folders:
            return int(file.name)
        if not file.is_symlink():
            return None
        file = file.parent / file.readlink()
    return None
