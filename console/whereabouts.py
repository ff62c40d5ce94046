"""Where a `postlog up` of this user runs, so that a command typed in another folder can say so.

Each running one leaves a small file in the user's state folder that holds its data folder's path. What always holds:
a folder is named only while something runs on it, which its lock says and not the file. If no file can be written
nothing is lost but the hint.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from console.running import Folder

#: A path is no longer than this, in bytes; what is longer is no entry of ours.
_LONGEST = 4096


@contextmanager
def remembered(environ: Mapping[str, str], folder: Folder) -> Iterator[None]:
    """Commands in other folders find this one while the context lasts. Call it with the folder locked."""
    entries, path = _entries(environ), os.fsencode(folder.path.absolute())
    if entries is None:
        yield
        return
    entry = entries / hashlib.sha256(path).hexdigest()[:16]
    with contextlib.suppress(OSError):
        entries.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Created for us alone, rather than narrowed after others could have read it.
        entry.unlink(missing_ok=True)
        with os.fdopen(os.open(entry, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            entry.unlink()


def known(environ: Mapping[str, str]) -> list[Path]:
    """The data folders on which something of this user's runs now; entries of what ended unasked are dropped."""
    folder, found = _entries(environ), []
    entries: list[Path] = []
    with contextlib.suppress(OSError):
        entries = sorted(folder.iterdir()) if folder else []
    for entry in entries:
        with contextlib.suppress(OSError):
            if path := _path(entry):
                found.append(path)
            else:
                entry.unlink()
    return found


def _path(entry: Path) -> Path | None:
    """The folder that an entry names, None if nothing runs there. Raises OSError for what is not ours to judge."""
    descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise PermissionError
        path = Path(os.fsdecode(file.read(_LONGEST)))
    try:
        return path if path.is_absolute() and Folder(path).held() else None
    except (OSError, ValueError):
        return None


def _entries(environ: Mapping[str, str]) -> Path | None:
    """Where the files are; None if this user has no place for them."""
    home, state = Path(environ.get("HOME", "")), Path(environ.get("XDG_STATE_HOME", ""))
    try:
        if state.is_absolute() and (not state.exists() or _is_ours(state)):
            return state / "postlog" / "running"
        if home.is_absolute() and _is_ours(home):
            return home / ".local" / "state" / "postlog" / "running"
    except OSError:
        pass
    return None


def _is_ours(folder: Path) -> bool:
    """Whether it is this user's: with sudo HOME may be another one's, and a folder of ours in there in their way."""
    return folder.stat().st_uid == os.geteuid()


def told(environ: Mapping[str, str], folder: Folder) -> str:
    """What to say where nobody answered: that nothing runs on this folder, and where something does."""
    here = folder.path.absolute()
    if folder.held():
        return f"postlog up on {here} is still starting: ask again."
    absent = f"No postlog up runs on {here}."
    running = known(environ)
    if not running:
        return f"{absent} Start one, or say where the system is: --data, or the addresses of postlog settings."
    where = " or ".join(f"--data {shlex.quote(str(path))}" for path in running)
    return f"{absent} Running elsewhere: give {where}."
