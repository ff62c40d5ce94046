"""Folders that a setting names: made if they are not there, and refused in words of ours if they cannot be used."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline.errors import ConfigError

#: Words for what is in the way of a folder, where the system's own would mislead.
_WORDS = {
    errno.EEXIST: "it is a file, not a folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EACCES: "it is not open to this user",
}


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
