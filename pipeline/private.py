"""Files and folders for this user alone: what we keep holds addresses of people in clear.

A shell over modes. What always holds: what we make is open to nobody else, and what a former release left open is
closed at the next start. Folders that an operator named or shares with others keep the mode they have; only those
whose names are ours are narrowed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import structlog

from pipeline.errors import ConfigError

log = structlog.get_logger(__name__)

#: What nobody else may: anything.
OTHERS = 0o077
#: Words for what is in the way of a folder, where the system's own would mislead.
_WORDS = {
    errno.EEXIST: "it is a file, not a folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EACCES: "it is not open to this user",
}


def from_now_on() -> None:
    """Whatever this process and its children make is for this user alone."""
    os.umask(OTHERS)


def folder(path: Path, setting: str) -> Path:
    """A folder that we can write to, made if it is not there.

    setting  the variable or option that names it, for the message

    Raises ConfigError.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise unusable(path, setting, error) from None
    return path


def unusable(path: Path, setting: str, error: OSError) -> ConfigError:
    """What to raise for a folder that cannot be used."""
    words = _WORDS.get(error.errno or 0, error.strerror)
    return ConfigError(f"{setting}: the folder {_short(path)} cannot be used: {words}. Name another one.")


def _short(path: Path) -> str:
    text = ascii(str(path))[1:-1]
    return text if len(text) <= 200 else f"{text[:200]}…"


def narrow(*paths: Path) -> None:
    """Take from others what a former release let them do with files or folders of ours."""
    for path in paths:
        try:
            mode = path.lstat().st_mode
            # What a link leads to has a name that an operator gave.
            if mode & OTHERS and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & ~OTHERS)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning(
                "other users may read this folder, and its mode cannot be changed", path=str(path), error=str(error)
            )
